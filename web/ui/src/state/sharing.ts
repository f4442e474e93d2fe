// What this page shares with others, for as long as its tab is open.
import { effect, signal } from '@preact/signals';
import type { RemoteInfo, ShareEvent } from 'pouchdb-loveseat/share.js';
import { type Ask, asks, sharing } from './counts.js';
import { keep, ofTab } from './keep.js';
import { hubOf, keepInvite } from './peers.js';
import { local } from './pouch.js';

export interface Shared { id: string; hub: string; db: string; name: string; access: string; link: string; admit: Admit; until?: Date; openers: RemoteInfo[]; refused: number; error?: string }

export const shared = signal<Shared[]>([]);
const again = new Map<string, [string, How, string]>(); // by share id
effect(() => {
  sharing.value = shared.value.length;
  keep('shares', shared.value.map(s => again.get(s.id)), ofTab);
});

/** Shares again what this tab shared before the page was loaded anew. */
export async function resume(shares: [string, How, string][]): Promise<void> {
  for (const [db, how, link] of shares) {
    const until = how.until && new Date(how.until);
    if (!until || +until > Date.now()) await share(db, { ...how, until }, link).catch(e => console.warn(`${how.name} is not shared again: ${e.message}`));
  }
}

/** Who is let in: every peer of the hub, who has the link with its secret, or whom one lets in when they come. */
export type Admit = 'all' | 'invite' | 'ask';
export interface How { hub: string; name: string; info: string; readOnly: boolean; admit: Admit; until?: Date }

/** Shares a database of this browser. link: as it was shared before the page was loaded again. */
export async function share(dbName: string, how: How, link?: string): Promise<Shared> {
  const db = await local(dbName), peer = await hubOf(how.hub).join();
  const entry: Shared = { id: '', hub: how.hub, db: dbName, name: how.name, access: how.readOnly ? 'read' : 'read-write', link: '', admit: how.admit, until: how.until, openers: [], refused: 0 };
  const update = (change: Partial<Shared>) => {
    Object.assign(entry, change);
    shared.value = shared.value.map(s => s.id === entry.id ? { ...entry } : s);
  };
  const s = await peer.share(db, {
    name: how.name, info: how.info ? { about: how.info } : undefined, readOnly: how.readOnly, invited: how.admit === 'invite', expires: entry.until,
    onRemote: how.admit === 'ask' ? e => new Promise<void>(done => {
      const ask: Ask = {
        me: peer.id, peer: e.peer, share: e.name,
        answer(yes) {
          if (!yes) e.preventDefault('The sharer refuses.');
          asks.value = asks.value.filter(a => a !== ask);
          done();
        },
      };
      asks.value = [...asks.value, ask];
    }) : undefined,
    onEvent(e: ShareEvent) {
      if (e.kind === 'ended') return void (shared.value = shared.value.filter(x => x.id !== entry.id));
      update({ error: e.kind === 'failed' ? e.error?.message : undefined, refused: entry.refused + Number(e.kind === 'refused') });
      queueMicrotask(() => update({ openers: peer.serving().find(x => x.share?.id === entry.id)?.openers ?? [] })); // who is told of counts from then on
    },
  });
  entry.id = s.id;
  entry.link = link ?? (how.admit === 'invite' ? (await peer.served(s.id)!.invite()).link : `${location.origin}/${encodeURIComponent(how.hub)}/share:${s.id}`);
  again.set(s.id, [dbName, how, entry.link]);
  keepInvite(s.id, entry.link.split('#')[1] ?? '');
  shared.value = [...shared.value, { ...entry }];
  return entry;
}

/** Takes a peer's access away, at once and for good. */
export async function revoke(s: Shared, peer: string): Promise<void> {
  await (await hubOf(s.hub).join()).served(s.id)?.revoke(peer);
}

export async function unshare(s: Shared): Promise<void> {
  await (await hubOf(s.hub).join()).unshare(s.id);
  shared.value = shared.value.filter(x => x.id !== s.id);
}

// A tab that shares asks before it is closed.
addEventListener('beforeunload', e => {
  if (shared.value.some(s => s.openers.length)) e.preventDefault();
});
