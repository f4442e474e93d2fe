// Who uses the page, and which hub it is of.
import { computed, signal } from '@preact/signals';
import { hub } from './api.js';

interface Config { hubs: string[]; release: string; open: boolean; signUp: boolean }
export interface User { name: string | null; roles: string[] }

export const config = signal<Config>();
export const user = signal<User>();
export const failed = signal<unknown>(); // why the above are not known

/** The hub databases, the usual one first. */
export const hubs = computed(() => [...config.value?.hubs ?? []].sort((a, b) => Number(b === 'hub') - Number(a === 'hub') || (a < b ? -1 : 1)));
export const admin = computed(() => !!user.value?.roles.includes('_admin'));
export const signedIn = computed(() => !!user.value?.name);

/** Asks the hub. */
export async function loadSession(): Promise<void> {
  try {
    const [c, s] = await Promise.all([config.value ?? hub<Config>('/_utils/config.json'), hub<{ userCtx: User }>('/_session')]);
    config.value = c;
    user.value = s.userCtx;
    failed.value = undefined;
  } catch (e) {
    failed.value = e;
  }
}

export async function logIn(name: string, password: string): Promise<void> {
  await hub('/_session', { json: { name, password } });
  await loadSession();
}

/** Makes an account, where the hub lets everybody, and logs in. */
export async function signUp(name: string, password: string): Promise<void> {
  await hub(`/_users/${encodeURIComponent('org.couchdb.user:' + name)}`, { method: 'PUT', json: { name, password, type: 'user', roles: [] } });
  await logIn(name, password);
}

export async function logOut(): Promise<void> {
  await hub('/_session', { method: 'DELETE' });
  await loadSession();
}
