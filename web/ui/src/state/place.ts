// The places that databases are at, as the page's URLs name them: on the hub
// ["hub", NAME], at a peer ["share", HUB, ID], in this browser ["here", NAME].
import { Database } from './couch.js';
import { hubFetch } from './api.js';
import { hubOf } from './peers.js';
import { localDatabase } from './pouch.js';
import { to } from './route.js';

export type Place = { kind: 'hub'; name: string } | { kind: 'share'; hub: string; id: string } | { kind: 'here'; name: string };

export function parsePlace(s: string[]): Place | undefined {
  const [kind, a, b] = s;
  if ((kind === 'hub' || kind === 'here') && a) return { kind, name: a };
  if (kind === 'share' && a && b) return { kind, hub: a, id: b };
  return undefined;
}

export const placePath = (p: Place): string[] => p.kind === 'share' ? ['share', p.hub, p.id] : [p.kind, p.name];

/** The URL of a place's documents. */
export const browse = (p: Place, values: Record<string, string | number | undefined> = {}) => to(['browse', ...placePath(p)], values);

export const onHub = (name: string) => new Database('/' + encodeURIComponent(name), hubFetch);

export async function openPlace(p: Place): Promise<Database> {
  switch (p.kind) {
    case 'hub': return onHub(p.name);
    case 'here': return localDatabase(p.name);
    case 'share': return hubOf(p.hub).open(p.id);
  }
}

/** A place's name for people. */
export function placeName(p: Place): string {
  return p.kind === 'share' ? hubOf(p.hub).shares.value?.find(s => s.id === p.id)?.name ?? 'A share' : p.name;
}

export const whereIs = (p: Place) => ({ hub: 'on the hub', share: 'at a peer', here: 'in this browser' })[p.kind];
