import { Directory, sameShare } from './directory.js';
import { type Access, type Admission, published, type ShareDoc, sharePrefix } from './documents.js';
import { randomHex, toBase64, url64, utf8 } from './encoding.js';
import { badRequest, CouchError } from './errors.js';
import { Feed } from './feed.js';
import { Hub, type HubFetch } from './hub.js';
import { type Identity, loadIdentity, peerOf } from './identity.js';
import { Mailbox } from './mailbox.js';
import type { Pouch } from './pouch.js';
import type { Relays } from './relay.js';
import { Remote } from './remote.js';
import type { Share, ShareOptions } from './share.js';
import type { Served, Sharing } from './sharing.js';
import type { Topic, TopicOptions } from './topic.js';
import { type PeerEvent, Transport } from './transport.js';

/** How to join a hub. */
export interface JoinOptions {
  /** The hub database's URL, "https://host/hub". Credentials in it are sent as Basic authentication. */
  hub?: string;
  /** Fetch below the hub database. A Loveseat hub with accounts needs its URL too, for which proofs are made. */
  fetch?: HubFetch;
  /** This peer's identity. Default: that of this browser for this origin. */
  identity?: Identity;
  /** How long shares outlive a page that dies, in milliseconds. Default: 2 minutes. */
  lease?: number;
  /** STUN and TURN servers, or what returns them for the next connection. Default: those of a Loveseat hub. */
  iceServers?: RTCIceServer[] | (() => RTCIceServer[] | Promise<RTCIceServer[]>);
  /** Whether connections go through the hub, encrypted from end to end: where no direct path is found ("auto"), always ("hub") or never ("off"). Default: auto. */
  relay?: 'auto' | 'hub' | 'off';
  /** Hides this page's addresses: it connects through TURN servers alone. */
  relayOnly?: boolean;
  /** Bounds the making of a connection, in milliseconds. Default: 15 s. */
  timeout?: number;
  /** Bounds the connections that others have opened to this page. Default: 64. */
  maxPeers?: number;
  /** Is told when a connection to a peer opens and closes. */
  onPeer?: (e: PeerEvent) => void;
  /** What this page tells of itself to those whose shares it opens: any JSON of at most 4 KiB, a device's name, say. */
  info?: unknown;
  /** For tests. Default: the browser's. */
  RTCPeerConnection?: typeof RTCPeerConnection;
}

/** How to open a share. */
export interface OpenOptions {
  /** The secret of an invite. Default: that of the link, if it has one. */
  invite?: string;
  /** What the sharer sees when it decides. Default: that of JoinOptions. */
  info?: unknown;
}

/** A share in the hub, as its signed document tells. */
export interface SharedDatabase {
  id: string; name: string; info: unknown;
  /** The sharer's peer id: show it, or its beginning, so that people know whom they deal with. */
  peer: string;
  /** Opens it: new PouchDB(share.dbname). */
  dbname: string;
  /** The database's name at the sharer. */
  db: string;
  access: Access;
  /** When it was last published. */
  docCount: number; updateSeq: string;
  published: Date;
  /** When it ends unless it is renewed. */
  expires: Date;
  /** How openers are admitted; undefined: all of the hub's peers are. */
  admission?: Admission;
  /** Openers see a part of the database only. */
  filtered: boolean;
  /** When the share itself ends. */
  until?: Date;
  /** It is this browser's. */
  own: boolean;
  /** To give to others. */
  link?: string;
}

/** A change among the hub's live shares. */
export interface SharesChange { kind: 'new' | 'changed' | 'gone'; share: SharedDatabase }

/** A connection to another peer. */
export interface PeerState { peer: string; route: string; incoming: boolean; since: Date }

/** The scheme of shares' dbnames. */
export const scheme = 'loveseat';

/** A page that takes part in a hub: it shares databases, sees those of others and opens them. */
export class Peer {
  readonly instance = randomHex(8);
  readonly directory = new Directory();
  readonly lease: number;
  readonly transport: Transport;
  readonly #mailbox: Mailbox;
  readonly #feed: Feed;
  readonly #remotes = new Set<Remote>();
  readonly #over = new AbortController();
  #relays?: Promise<Relays>;
  #sharing?: Promise<Sharing>;
  #serves?: Sharing; // once it is loaded

  private constructor(readonly hub: Hub, readonly identity: Identity, private readonly o: JoinOptions) {
    this.lease = Math.min(o.lease ?? 120_000, 24 * 3_600_000);
    this.#mailbox = new Mailbox(hub, identity, `${identity.id}.${this.instance}`, this.directory);
    this.#feed = new Feed(hub, this.directory, this.#mailbox);
    const { iceServers = () => hub.iceServers() } = o;
    this.transport = new Transport({
      signaler: this.#mailbox, relayOnly: !!o.relayOnly, timeout: o.timeout ?? 15_000, maxPeers: o.maxPeers ?? 64,
      iceServers: async () => typeof iceServers === 'function' ? iceServers() : iceServers,
      relay: { mode: o.hub ? o.relay ?? 'auto' : 'off', load: () => this.#relays ??= import('./relay.js').then(m => new m.Relays(this, this.#mailbox, o.hub!)) },
      onPeer: e => o.onPeer?.(e), RTCPeerConnection: o.RTCPeerConnection ?? globalThis.RTCPeerConnection,
    });
  }

  /** Takes part in a hub until close, or the page goes away. Throws the hub's errors. */
  static async join(o: JoinOptions): Promise<Peer> {
    if (!Object.keys(o).every(k => /^(hub|fetch)$/.test(k))) (await import('./rare.js')).checkJoin(o);
    const given = o.hub?.replace(/\/+$/, ''), url = given && bare(given);
    if (!o.fetch && !url) throw badRequest('join needs the URL of a hub database.');
    const identity = o.identity ?? await loadIdentity();
    const hub = new Hub(o.fetch ?? (await import('./rare.js')).hubFetch(given!, url!), url), p = new Peer(hub, identity, { ...o, hub: url });
    await hub.identify(identity);
    void hub.iceServers(); // so that they are there for the first connection
    await p.#feed.list();
    void p.#feed.run(p.#over.signal);
    p.#followPage();
    return p;
  }

  /** The peer id. */
  get id(): string {
    return this.identity.id;
  }

  #followPage(): void {
    if (typeof window === 'undefined') return;
    const { signal } = this.#over;
    const wake = () => {
      this.#feed.nudge();
      for (const l of this.transport.links()) l.check();
      this.#serves?.renewSoon();
    };
    window.addEventListener('online', wake, { signal });
    window.addEventListener('pageshow', e => e.persisted && wake(), { signal });
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && wake(), { signal });
    window.addEventListener('pagehide', e => {
      if (!e.persisted) this.#serves?.leave();
      for (const l of this.transport.links()) l.abandon();
    }, { signal });
  }

  /** What the API tells of a share. */
  #public(s: ShareDoc): SharedDatabase {
    const id = s._id.slice(sharePrefix.length);
    return {
      id, name: s.name, info: s.info ?? null, peer: s.peer, dbname: `${scheme}://${id}`, db: s.db, access: s.access, docCount: s.doc_count,
      updateSeq: s.update_seq, published: new Date(published(s)), expires: new Date(s.expires), own: s.peer === this.id,
      admission: s.admission, filtered: !!s.filtered, until: s.until ? new Date(s.until) : undefined,
      link: this.o.hub && `${this.o.hub}/${sharePrefix}${id}`,
    };
  }

  /** Returns what is known of a live share. */
  find(id: string): SharedDatabase | undefined {
    const s = this.directory.get(id);
    return s && this.#public(s);
  }

  /** Returns the hub's live shares, by name. It always asks the hub. */
  async shares(): Promise<SharedDatabase[]> {
    await this.directory.list(this.hub);
    return this.directory.live().map(s => this.#public(s));
  }

  /** Calls fn with each live share of the hub, then with each change, until the function returned is called. */
  watch(fn: (c: SharesChange) => void): () => void {
    let seen = new Map<string, ShareDoc>();
    const tell = () => {
      const live = new Map(this.directory.live().map(s => [s._id, s]));
      const before = seen;
      seen = live;
      for (const [id, s] of live) {
        const old = before.get(id);
        if (!old || !sameShare(old, s)) fn({ kind: old ? 'changed' : 'new', share: this.#public(s) });
      }
      for (const [id, s] of before) if (!live.has(id)) fn({ kind: 'gone', share: this.#public(s) });
    };
    const unwatch = this.directory.watch(tell);
    tell();
    return unwatch;
  }

  /** Loads what only sharers need. */
  async #load(): Promise<Sharing> {
    this.#sharing ??= import('./sharing.js').then(m => new m.Sharing(this));
    this.#sharing.catch(() => this.#sharing = undefined);
    return this.#serves = await this.#sharing;
  }

  /** Publishes a PouchDB database in the hub and serves it to the hub's peers until it is unshared. */
  async share(db: Pouch, o: ShareOptions = {}): Promise<SharedDatabase> {
    return this.find((await (await this.#load()).share(db, o)).id)!;
  }

  /** A share of this page, given by its database or id: it makes invites, revokes and broadcasts. */
  served(db: Pouch | string): Share | undefined {
    return this.#serves?.get(db);
  }

  /** Takes part in a topic with a PouchDB database: it replicates live with those of all peers that join the topic. */
  async join(topic: string, db: Pouch, o: TopicOptions = {}): Promise<Topic> {
    return (await this.#load()).join(topic, db, o);
  }

  /** Ends the share of a database, given by itself or the share's id. Does nothing if it is not shared. */
  async unshare(db: Pouch | string): Promise<void> {
    await this.#serves?.unshare(db);
  }

  /** The databases that this page shares, with the peers that have them open. */
  serving(): Served[] {
    return this.#serves?.list() ?? [];
  }

  /**
   * Opens a share, given by its id, dbname or link (with the secret of an invite after "#"), or by its name if only one
   * has it. No connection is made yet.
   */
  async open(ref: string, o: OpenOptions = {}): Promise<Remote> {
    const invite = o.invite ?? ref.split('#')[1], info = o.info ?? this.o.info, intro: Record<string, string> = {};
    if (invite) intro['Loveseat-Invite'] = invite;
    if (info) intro['Loveseat-Info'] = url64(toBase64(utf8(JSON.stringify(info))));
    const id = /(?:^|:|\/)([a-z2-7]{26})(#|$)/.exec(ref)?.[1];
    if (id) {
      if (!this.directory.get(id)) await this.directory.list(this.hub, id);
      const s = this.directory.get(id);
      if (s) return this.#remote(s, intro);
    }
    await this.directory.list(this.hub);
    const found = await (await import('./rare.js')).lookUp(this.directory.live(), ref, id);
    if (found instanceof Array) throw new CouchError(...found);
    return this.#remote(found, intro);
  }

  #remote(s: ShareDoc, intro: Record<string, string>): Remote {
    const id = s._id.slice(sharePrefix.length);
    if (s.instance === this.instance) throw new CouchError(409, 'own_share', 'This page shares it itself.');
    const r = new Remote(this, id, s.db, intro);
    this.#remotes.add(r);
    return r;
  }

  /** The connections to other peers. */
  peers(): PeerState[] {
    return this.transport.links().map(l => ({ peer: peerOf(l.peer), route: l.route, incoming: l.incoming, since: new Date(l.since) }));
  }

  /** Unshares what is shared, closes what is open, and leaves the hub. */
  async close(): Promise<void> {
    if (this.#over.signal.aborted) return;
    for (const r of this.#remotes) r.close();
    await this.#serves?.close();
    await this.transport.close();
    await this.#mailbox.empty();
    this.#over.abort();
  }
}

/** A URL without its credentials. */
function bare(url: string): string {
  const u = new URL(url, globalThis.location?.href);
  u.username = u.password = u.search = u.hash = '';
  return u.href;
}
