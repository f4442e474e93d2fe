import { type Doc, gone, published, readShare, type ShareDoc, sharePrefix } from './documents.js';
import type { Hub } from './hub.js';
import type { Keys } from './identity.js';

const maxShares = 20_000;

/** What a page knows of the hub's shares: verified documents, kept up to date by the changes feed and by listings. */
export class Directory {
  readonly #shares = new Map<string, ShareDoc>();
  readonly #watchers = new Set<() => void>();
  readonly #listings = new Set<Set<string>>(); // ids that the feed has told of meanwhile
  #expiry?: ReturnType<typeof setTimeout>;

  /** Takes a share document from the changes feed; undefined: deleted. One that is forged changes nothing. */
  async apply(docID: string, doc?: Doc): Promise<void> {
    const id = docID.slice(sharePrefix.length);
    const s = doc && await readShare(doc).catch(() => undefined);
    if (doc && !s) return;
    for (const touched of this.#listings) touched.add(id);
    this.#set(id, s);
  }

  /** Makes the directory agree with the hub, as to all shares or those with the given ids. */
  async list(hub: Hub, only?: string): Promise<void> {
    const touched = new Set<string>();
    this.#listings.add(touched);
    try {
      const docs = only ? [await hub.get(sharePrefix + only)] : await hub.list(sharePrefix);
      const found = new Map<string, ShareDoc | undefined>();
      await Promise.all(docs.map(async d => d && found.set(d._id.slice(sharePrefix.length), await readShare(d).catch(() => undefined))));
      for (const id of only ? [only] : [...this.#shares.keys()]) if (!found.has(id) && !touched.has(id)) this.#set(id);
      for (const [id, s] of found) if (s && !touched.has(id)) this.#set(id, s);
    } finally {
      this.#listings.delete(touched);
    }
  }

  /** Replaces what is known of a share. An older signed document that someone writes again does not count. */
  #set(id: string, s?: ShareDoc): void {
    const known = this.#shares.get(id);
    if (s ? known && published(s) <= published(known) : !known) return;
    if (!s) this.#shares.delete(id);
    else if (known || this.#shares.size < maxShares) this.#shares.set(id, s);
    this.#changed();
  }

  #changed(): void {
    clearTimeout(this.#expiry);
    const live = this.live();
    if (live.length && this.#watchers.size) {
      this.#expiry = setTimeout(() => this.#changed(), Math.max(0, Math.min(...live.map(gone)) - Date.now()) + 1);
    }
    for (const fn of [...this.#watchers]) fn();
  }

  /** Returns a live share. */
  get(id: string): ShareDoc | undefined {
    const s = this.#shares.get(id);
    return s && gone(s) > Date.now() ? s : undefined;
  }

  /** Returns the live shares in the order of names and ids. */
  live(): ShareDoc[] {
    const now = Date.now();
    for (const [id, s] of this.#shares) if (gone(s) <= now) this.#shares.delete(id);
    const key = (s: ShareDoc) => `${s.name}\0${s._id}`;
    return [...this.#shares.values()].sort((a, b) => key(a) < key(b) ? -1 : 1);
  }

  /** Returns a sharer's public keys. */
  keys(peer: string): Keys | undefined {
    for (const s of this.#shares.values()) if (s.peer === peer) return s.keys;
    return undefined;
  }

  /** Calls fn after every change, also when a share expires, until the function returned is called. */
  watch(fn: () => void): () => void {
    this.#watchers.add(fn);
    if (this.#watchers.size === 1) this.#changed();
    return () => {
      this.#watchers.delete(fn);
      if (!this.#watchers.size) clearTimeout(this.#expiry);
    };
  }
}

/** Whether two documents tell the same; renewals alone do not count. */
export function sameShare(a: ShareDoc, b: ShareDoc): boolean {
  const told = (s: ShareDoc) => JSON.stringify([s.name, s.info, s.db, s.access, s.doc_count, s.update_seq, s.admission, s.filtered, s.until]);
  return told(a) === told(b);
}
