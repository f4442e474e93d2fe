import type { Directory } from './directory.js';
import { type Doc, newSignal, openSignal, type Signal } from './documents.js';
import { CouchError } from './errors.js';
import { type Hub, retry } from './hub.js';
import { type Identity, peerOf } from './identity.js';
import { Sessions } from './sessions.js';

/** Carries the messages by which a transport negotiates connections; from is verified. */
export interface Signaler {
  /** Delivers a message, trying again until signal is aborted. */
  send(s: Omit<Signal, 'from'>, signal: AbortSignal): Promise<void>;
  /** The key to which signals to a peer are sealed. */
  sealKey(address: string, session: string): Promise<string>;
  readonly address: string;
  /** Is called with each message to this peer, in order per session. */
  onSignal?: (s: Signal) => void;
}

const trashLinger = 1000, maxTrash = 1000, sweepEvery = 60_000;

/** The Signaler of one page: signals are documents of the hub, which it deletes when they have served. */
export class Mailbox implements Signaler {
  onSignal?: (s: Signal) => void;
  readonly sessions = new Sessions();
  #trash: Doc[] = [];
  #emptying?: ReturnType<typeof setTimeout>;
  #swept = Date.now();
  #queue: Promise<unknown> = Promise.resolve();

  constructor(private readonly hub: Hub, private readonly id: Identity, readonly address: string, private readonly dir: Directory) {}

  async send(s: Omit<Signal, 'from'>, signal: AbortSignal): Promise<void> {
    const now = Date.now(), seq = this.sessions.number(s.to, s.session, now);
    const doc = await newSignal(this.id, { ...s, from: this.address }, seq, await this.sealKey(s.to, s.session), now);
    await retry(signal, () => this.hub.put(doc).catch(e => {
      if (!(e instanceof CouchError && e.status === 409)) throw e; // else an attempt before this one was carried out
    }));
  }

  /** The key to which signals to a peer are sealed, as its signature vouches for it. */
  async sealKey(address: string, session: string): Promise<string> {
    return (this.sessions.keysOf(address, session) ?? await this.#keys(peerOf(address))).seal;
  }

  async #keys(peer: string) {
    if (!this.dir.keys(peer)) await this.dir.list(this.hub); // the feed may lag behind
    const keys = this.dir.keys(peer);
    if (!keys) throw new CouchError(404, 'not_found', `Peer ${peer.slice(0, 9)} shares nothing in this hub.`);
    return keys;
  }

  /** Takes a signal document from the hub. Those to this page are delivered if they are good, and deleted in any case. */
  apply(doc: Doc): Promise<void> {
    if (doc.to !== this.address) return Promise.resolve();
    this.discard(doc);
    const taken = this.#queue.then(() => this.#take(doc)).catch(() => {}); // one after the other: their order counts
    this.#queue = taken;
    return taken;
  }

  async #take(doc: Doc): Promise<void> {
    const now = Date.now();
    if (now - this.#swept > sweepEvery) {
      this.#swept = now;
      this.sessions.forget(now);
    }
    const { doc: d, signal } = await openSignal(this.id, doc, now);
    for (const s of this.sessions.accept(signal, d.seq, d.keys, now)) this.onSignal?.(s);
  }

  /** Deletes a signal, soon. */
  discard(doc: Doc): void {
    if (this.#trash.length < maxTrash) this.#trash.push({ _id: doc._id, _rev: doc._rev, _deleted: true });
    this.#emptying ??= setTimeout(() => void this.empty(), trashLinger);
  }

  /** Deletes the signals that have served. What it fails to delete expires. */
  async empty(): Promise<void> {
    clearTimeout(this.#emptying);
    this.#emptying = undefined;
    const docs = this.#trash;
    this.#trash = [];
    if (docs.length) await this.hub.write(docs).catch(() => {});
  }
}
