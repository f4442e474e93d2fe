// This page as a peer of the hub's databases: the shares there are, and who is connected.
import { type Signal, signal } from '@preact/signals';
import { Peer, type SharedDatabase } from 'pouchdb-loveseat/peer.js';
import { Database } from './couch.js';
import { kept, keep, ofTab } from './keep.js';

export interface Happened { at: number; hub: string; peer: string; state: string; route?: string; error?: string }

/** A hub database that this page has joined. */
export class Joined {
  /** Live shares by name; undefined until they are known. */
  readonly shares = signal<SharedDatabase[]>();
  readonly error = signal<unknown>();
  /** Counts what happened to connections, so that who shows them looks again. */
  readonly turns = signal(0);
  peer?: Peer;
  #peer?: Promise<Peer>;
  #open = new Map<string, Promise<Database>>();
  /** Bytes of bodies that came from and went to each share. */
  readonly moved = new Map<string, { down: number; up: number }>();

  constructor(readonly name: string) {}

  /** Joins the hub, unless that was done. */
  join(): Promise<Peer> {
    if (!globalThis.isSecureContext) return Promise.reject(new Error('This page was loaded over plain HTTP.'));
    this.#peer ??= Peer.join({ hub: `${location.origin}/${encodeURIComponent(this.name)}`, onPeer: e => this.#tell(e) }).then(p => {
      this.peer = p;
      this.error.value = undefined;
      let due = false; // many shares change at once
      p.watch(() => {
        if (!due) queueMicrotask(() => { due = false; this.#list(p); });
        due = true;
      });
      this.#list(p);
      return p;
    });
    this.#peer.catch(e => {
      this.error.value = e;
      this.#peer = undefined;
    });
    return this.#peer;
  }

  #list(p: Peer): void {
    const shares: SharedDatabase[] = [];
    p.watch(c => shares.push(c.share))(); // all there are, then no more
    this.shares.value = shares;
  }

  #tell(e: { peer: string; state: string; route?: string; error?: Error }): void {
    happened.value = [{ at: Date.now(), hub: this.name, peer: e.peer.split('.')[0]!, state: e.state, route: e.route, error: e.error?.message }, ...happened.value].slice(0, 50);
    this.turns.value++;
  }

  /** The database behind a share, which connects with its first request. */
  async open(id: string): Promise<Database> {
    const peer = await this.join();
    let db = this.#open.get(id);
    if (!db) {
      const secret = inviteFor(id);
      db = peer.open(`${location.origin}/${encodeURIComponent(this.name)}/share:${id}${secret && '#' + secret}`).then(r => new Database(r.url, this.#counted(id, r.fetch)));
      this.#open.set(id, db);
      db.catch(() => this.#open.delete(id));
    }
    return db;
  }

  /** fetch that counts what goes through it. */
  #counted(id: string, fetch: (url: string, init?: RequestInit) => Promise<Response>) {
    const n = { down: 0, up: 0 };
    this.moved.set(id, n);
    return async (url: string, init?: RequestInit) => {
      if (typeof init?.body === 'string') n.up += init.body.length;
      else if (init?.body instanceof Blob) n.up += init.body.size;
      const r = await fetch(url, init);
      n.down += Number(r.headers.get('content-length') ?? 0);
      this.turns.value++;
      return r;
    };
  }

  /** Leaves the hub, as when somebody else logs in. */
  async leave(): Promise<void> {
    const p = this.#peer;
    this.#peer = this.peer = undefined;
    this.shares.value = undefined;
    this.#open.clear();
    await (await p?.catch(() => undefined))?.close();
  }
}

/** What happened to connections, the latest first. */
export const happened: Signal<Happened[]> = signal([]);

const joined = new Map<string, Joined>();
/** The hubs that were joined, for screens that show all. */
export const all = signal<Joined[]>([]);

/** The state of a hub database, which is joined if that was not done yet. */
export function hubOf(name: string): Joined {
  void all.value; // who shows it looks again when somebody else has logged in
  let j = joined.get(name);
  if (!j) {
    joined.set(name, j = new Joined(name));
    all.value = [...joined.values()];
  }
  void j.join().catch(() => {});
  return j;
}

/** Leaves all hubs: who uses the page has changed. */
export async function leaveAll(): Promise<void> {
  const left = [...joined.values()];
  joined.clear();
  all.value = [];
  await Promise.all(left.map(j => j.leave()));
}

/** Keeps the secret of a link that was followed, as long as the tab is open. */
export const keepInvite = (id: string, secret: string) => secret && keep('invite.' + id, secret, ofTab);
export const inviteFor = (id: string) => kept('invite.' + id, '', ofTab);
