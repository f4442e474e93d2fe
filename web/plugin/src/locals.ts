// The _local documents of peers, as replications' checkpoints are. Each peer has its own, and neither sees nor changes those of
// others. How many there are is bounded, also over restarts and under ever new keys: those that were not used for longest make
// room. PouchDB cannot list _local documents, so which there are is kept in one.
import { type Bytes } from './encoding.js';
import { badRequest, CouchError, notFound } from './errors.js';
import { pause } from './hub.js';
import { readJSON } from './json.js';
import type { Pouch } from './pouch.js';

const maxDoc = 64 << 10, maxID = 1000;
const maxOfPeer = 256, maxAll = 2048; // documents
const maxBytesOfPeer = 2 << 20, maxBytes = 32 << 20;
const noted = 3_600_000; // ms: so much later a use is written down
const index = '_local/loveseat-locals';

/** Which documents there are, the least used first: when they were used, and how long they are. */
type Entry = [used: number, bytes: number];

const tooMany = (n: number, bytes: number, maxN: number, max: number): boolean => n > maxN || bytes > max;

/** The _local documents of a database's peers. */
export class Locals {
  static readonly #all = new WeakMap<object, Locals>();
  #entries?: Map<string, Entry>;
  #rev?: string;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(private readonly db: Pouch) {}

  /** Those of a database, which all its shares have in common. */
  static of(db: Pouch): Locals {
    let l = this.#all.get(db);
    if (!l) this.#all.set(db, l = new Locals(db));
    return l;
  }

  #id(peer: string, id: string): string {
    if (id.length > maxID) throw badRequest('The id of a _local document is too long.');
    return `_local/peer:${peer}:${id}`;
  }

  async get(peer: string, id: string): Promise<any> {
    const own = this.#id(peer, id), doc = await this.db.get(own);
    await this.#use(own, peer);
    return doc;
  }

  /** Writes one. Throws 409, 413. */
  put(peer: string, id: string, json: Bytes): Promise<{ rev: string }> {
    const own = this.#id(peer, id);
    if (json.length > maxDoc) throw new CouchError(413, 'document_too_large', 'A _local document of a share is limited to 64 KiB.');
    const doc = readJSON(json);
    if (doc === null || typeof doc !== 'object' || Array.isArray(doc)) throw badRequest('Document must be a JSON object');
    return this.#inTurn(async () => {
      await this.#note(own, peer, json.length); // first: what is there is on the list
      return this.db.put({ ...doc, _id: own });
    });
  }

  remove(peer: string, id: string, rev?: string): Promise<void> {
    const own = this.#id(peer, id);
    return this.#inTurn(async () => {
      await this.db.remove(own, rev ?? (await this.db.get(own))._rev);
      await this.#change(async all => all.delete(own));
    });
  }

  #inTurn<T>(fn: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(fn);
    this.#turn = done.catch(() => {});
    return done;
  }

  async #load(): Promise<Map<string, Entry>> {
    if (this.#entries) return this.#entries;
    const doc = await this.db.get(index).catch((e: { status?: number }) => {
      if (e.status !== 404) throw e;
      return { used: [] };
    });
    this.#rev = doc._rev;
    return this.#entries = new Map(doc.used as [string, Entry][]);
  }

  /** Changes the list, and keeps it if fn says so. */
  async #change(fn: (all: Map<string, Entry>) => Promise<boolean>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      if (!await fn(await this.#load())) return;
      try {
        this.#rev = (await this.db.put({ _id: index, ...this.#rev && { _rev: this.#rev }, used: [...this.#entries!] })).rev;
        return;
      } catch (e) {
        this.#entries = undefined; // another page of this browser has written it
        if ((e as { status?: number }).status !== 409 || attempt === 20) throw e;
        await pause(Math.random() * 5 * attempt);
      }
    }
  }

  /** Puts one at the end of the list. */
  async #use(own: string, peer: string): Promise<void> {
    const all = await this.#load(), e = all.get(own);
    if (e && Date.now() - e[0] < noted) {
      all.delete(own);
      all.set(own, e);
    } else {
      await this.#inTurn(() => this.#note(own, peer, e?.[1] ?? maxDoc)).catch(() => {});
    }
  }

  /** Writes down that one is used, unless that was done lately, and makes room for it. */
  #note(own: string, peer: string, bytes: number): Promise<void> {
    return this.#change(async all => {
      const e = all.get(own), now = Date.now(), late = !e || now - e[0] >= noted;
      all.delete(own);
      all.set(own, [late ? now : e[0], bytes]);
      if (!late && bytes <= e[1]) return false;
      for (const old of [...this.#over(k => k.startsWith(`_local/peer:${peer}:`), maxOfPeer, maxBytesOfPeer), ...this.#over(() => true, maxAll, maxBytes)]) await this.#drop(old);
      return true;
    });
  }

  /** Those that are too many, the least used. */
  #over(which: (own: string) => boolean, max: number, maxTotal: number): string[] {
    const mine = [...this.#entries!].filter(([k]) => which(k)), out: string[] = [];
    let n = mine.length, bytes = mine.reduce((sum, [, e]) => sum + e[1], 0);
    for (const [k, e] of mine) {
      if (!tooMany(n, bytes, max, maxTotal)) break;
      out.push(k);
      n--;
      bytes -= e[1];
    }
    return out;
  }

  async #drop(own: string): Promise<void> {
    const doc = await this.db.get(own).catch(() => undefined);
    if (doc) await this.db.remove(own, doc._rev).catch((e: { status?: number }) => {
      if (e.status !== 404) throw notFound('missing');
    });
    this.#entries!.delete(own);
  }
}
