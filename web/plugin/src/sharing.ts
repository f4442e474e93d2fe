// The sharer's side of a peer: what a page loads when it first shares a database.
import { crowd } from './crowd.js';
import { signalPrefix } from './documents.js';
import { CouchError } from './errors.js';
import { Held, serve } from './httpserver.js';
import { peerOf } from './identity.js';
import { Incoming } from './incoming.js';
import type { Link } from './link.js';
import type { Mailbox } from './mailbox.js';
import type { Peer, SharedDatabase } from './peer.js';
import type { Pouch } from './pouch.js';
import { refuse, type RemoteInfo, Share, type ShareOptions } from './share.js';
import { Topic, type TopicOptions } from './topic.js';
import type { Stream } from './yamux.js';

/** A database that is shared, with the peers that have it open. */
export interface Served { share: SharedDatabase | undefined; openers: RemoteInfo[] }

const prepareEvery = 45_000, farewellAge = 110_000; // ms

/** The databases that a page shares. */
export class Sharing {
  readonly #shares = new Map<string, Share>();
  readonly #topics = new Set<Topic>();
  #beginning: Promise<unknown> = Promise.resolve();
  #preparing?: ReturnType<typeof setTimeout>;
  #farewells: { proofs: string[]; at: number } = { proofs: [], at: 0 };
  readonly #held = new WeakMap<Link, Held>();

  constructor(private readonly peer: Peer) {
    const mailbox = peer.transport.config.signaler as Mailbox;
    mailbox.sessions.makeRoom = crowd;
    void this.#sweep(mailbox).catch(() => {});
    peer.transport.incoming = new Incoming(peer.transport, (stream, link) => void this.#serve(stream, link), id => this.#rank(id));
  }

  /** Deletes stale signals from and to this peer, of pages that ended without doing so. */
  async #sweep(mailbox: Mailbox): Promise<void> {
    const mine = (a: unknown) => typeof a === 'string' && peerOf(a) === this.peer.id;
    for (const d of await this.peer.hub.list(signalPrefix)) {
      if ((mine(d.to) || mine(d.from)) && Date.now() > Date.parse(d.expires as string) + 120_000) mailbox.discard(d);
    }
  }

  /** What is known of a peer, for when places run short: see Incoming. */
  #rank(peer: string): number {
    if (peer === this.peer.id) return 3; // another page of this one's
    return Math.max(0, ...[...this.#shares.values()].map(s => s.knows(peer)));
  }

  /** Publishes a database and serves it. topic: as a member of one. */
  async share(db: Pouch, o: ShareOptions, topic?: string): Promise<Share> {
    const begun = this.#beginning.catch(() => {}).then(() => this.#begin(db, o, topic));
    this.#beginning = begun;
    const s = await begun;
    try {
      await s.publish();
    } catch (e) {
      this.#shares.delete(s.id);
      throw e;
    }
    void s.renew().finally(() => !s.why && this.#shares.get(s.id) === s && this.#shares.delete(s.id));
    this.#prepare();
    return s;
  }

  /** Makes a share that is served, one at a time: what is refused because the database is shared already must not note another audience. */
  async #begin(db: Pouch, o: ShareOptions, topic?: string): Promise<Share> {
    const s = await Share.of(this.peer, db, o, base => [...this.#shares.values()].some(is => is.base === base && !is.why), topic);
    this.#shares.set(s.id, s);
    return s;
  }

  /** Has proofs ready that end the shares while the page goes away, when there is no time to sign. Hubs believe them for two minutes. */
  #prepare(): void {
    clearTimeout(this.#preparing);
    if (typeof window === 'undefined' || !this.#shares.size) return;
    const { prove } = this.peer.hub, at = Date.now();
    void Promise.all([...this.#shares].map(async () => await prove?.('POST', 'claim') ?? '')).then(proofs => this.#farewells = { proofs, at });
    this.#preparing = setTimeout(() => this.#prepare(), prepareEvery);
  }

  /** A share that is served here, given by its database or its id. */
  get(db: Pouch | string): Share | undefined {
    return [...this.#shares.values()].find(s => s.id === db || s.db === db && !s.topic);
  }

  /** Takes part in a topic. */
  async join(topic: string, db: Pouch, o: TopicOptions): Promise<Topic> {
    const t = await Topic.join(this.peer, this, topic, db, o);
    this.#topics.add(t);
    return t;
  }

  /** Serves one connection, whose requests may be for any of the shares. */
  async #serve(stream: Stream, link: Link): Promise<void> {
    const used = new Set<Share>(), held = this.#held.get(link) ?? new Held();
    this.#held.set(link, held);
    await serve(stream, host => async request => {
      const share = this.#shares.get(host);
      if (!share) return refuse(new CouchError(404, 'not_found', 'No such share.'));
      used.add(share);
      return share.handle(request, link, stream);
    }, held);
    for (const s of used) s.leave(link, stream);
  }

  /** Ends the share of a database, given by itself or the share's id. */
  async unshare(db: Pouch | string): Promise<void> {
    const s = this.get(db);
    if (!s) return;
    this.#shares.delete(s.id);
    await s.unshare();
  }

  list(): Served[] {
    return [...this.#shares.values()].map(s => ({ share: this.peer.find(s.id), openers: s.openers }));
  }

  renewSoon(): void {
    for (const s of this.#shares.values()) s.renewSoon();
  }

  /** Ends all shares while the page goes away. */
  leave(): void {
    const { proofs, at } = this.#farewells, good = Date.now() - at < farewellAge;
    for (const s of this.#shares.values()) void s.unshare(good ? proofs.pop() ?? '' : '').catch(() => {});
  }

  /** Ends all shares; those that the hub cannot be told of expire. */
  async close(): Promise<void> {
    await Promise.all([...this.#topics].map(t => t.cancel().catch(() => {})));
    await Promise.all([...this.#shares.values()].map(s => s.unshare().catch(() => {})));
    this.#shares.clear();
    this.#prepare();
  }
}
