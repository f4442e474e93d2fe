import { randomHex } from './encoding.js';
import { Link } from './link.js';
import { type Inbound, Negotiation, type NegotiationConfig, payload, readMessage, RefusedError } from './negotiation.js';
import type { Signal } from './documents.js';
import type { Stream } from './yamux.js';

// What strangers may make us remember.
const maxHalfOpen = 64; // negotiations that others have begun
const maxEarly = 64; // signals that came before their offer
const maxPeers = 4096; // peers of whom we remember the last offer
const byeTimeout = 3000; // ms

/** Tells that a connection to a peer has opened or closed. */
export interface PeerEvent { peer: string; state: 'connected' | 'closed'; route?: string; error?: Error }

/** How a transport connects. */
export interface TransportConfig extends NegotiationConfig {
  /** Bounds the connections that others have opened to this page. */
  maxPeers: number;
  onPeer: (e: PeerEvent) => void;
}

interface Peer { link?: Link; attempt?: Attempt; offered: number }

/** Makes a link, by one negotiation or, when another takes its place, several. */
interface Attempt { negotiation: Negotiation; link: Promise<Link> }

/** Connects this peer to others by WebRTC: one peer connection with each, which carries the streams that either side opens. */
export class Transport {
  readonly #peers = new Map<string, Peer>();
  private listener?: (s: Stream, l: Link) => void;
  #clock = 0;
  #early: Inbound[] = [];
  #refusing = 0;
  #closed = false;

  constructor(private readonly config: TransportConfig) {
    config.signaler.onSignal = s => this.#receive(s);
  }

  /** Calls fn with each stream that peers open. Without it offers out of the blue are refused. */
  listen(fn: (s: Stream, l: Link) => void): void {
    this.listener = fn;
  }

  /** Opens a stream to a peer, over the connection there is or a new one. Throws a ConnectError. */
  async dial(addr: string): Promise<{ stream: Stream; link: Link }> {
    for (let attempts = 0; ; attempts++) {
      if (this.#closed) throw new Error('closed');
      const p = this.#peer(addr);
      let link = p.link;
      if (!link?.alive) {
        const joined = p.attempt?.negotiation.offer;
        p.attempt ??= this.#start(p, this.#negotiation(addr, randomHex(16)));
        try {
          link = await p.attempt.link;
        } catch (e) {
          if (joined && !attempts) continue; // the peer's own attempt failed: make ours
          throw e;
        }
      }
      try {
        return { stream: link.session.open(), link };
      } catch (e) {
        if (attempts) throw e;
      }
    }
  }

  /** The connections there are. */
  links(): Link[] {
    return [...this.#peers.values()].flatMap(p => p.link ? [p.link] : []);
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const p of this.#peers.values()) p.attempt?.negotiation.cancel(new Error('closed'));
    await Promise.all(this.links().map(l => l.close()));
  }

  #peer(addr: string): Peer {
    let p = this.#peers.get(addr);
    if (p) return p;
    if (this.#peers.size >= maxPeers) for (const [a, q] of this.#peers) if (!q.link && !q.attempt) this.#peers.delete(a);
    this.#peers.set(addr, p = { offered: 0 });
    return p;
  }

  #negotiation(peer: string, session: string, offer?: Inbound): Negotiation {
    this.#clock = Math.max(this.#clock + 1, Date.now());
    return new Negotiation(peer, session, offer, this.#clock, this.config);
  }

  #start(p: Peer, n: Negotiation): Attempt {
    const a: Attempt = { negotiation: n, link: undefined! };
    a.link = this.#run(p, a);
    a.link.catch(() => {});
    return a;
  }

  /** Negotiates until the attempt's last negotiation has an outcome. */
  async #run(p: Peer, a: Attempt): Promise<Link> {
    for (;;) {
      const n = a.negotiation;
      try {
        const channel = await n.run();
        if (a.negotiation !== n || this.#closed) n.pc!.close();
        if (this.#closed) throw new Error('closed');
        if (a.negotiation !== n) continue;
        p.attempt = undefined;
        return this.#adopt(p, new Link(n.peer, !!n.offer, n.pc!, channel, (s, l) => this.#accept(s, l)));
      } catch (e) {
        if (a.negotiation !== n) continue;
        p.attempt = undefined;
        if (!((e as Error).cause instanceof RefusedError)) void this.#bye(n.peer, n.session, 'negotiation failed');
        throw e;
      }
    }
  }

  #adopt(p: Peer, link: Link): Link {
    const old = p.link;
    p.link = link;
    void old?.close(new Error('the peer opened a new connection'));
    this.config.onPeer({ peer: link.peer, state: 'connected', route: link.route });
    void link.ended.then(error => {
      if (p.link === link) p.link = undefined;
      this.config.onPeer({ peer: link.peer, state: 'closed', error });
    });
    return link;
  }

  #accept(s: Stream, l: Link): void {
    if (this.listener) this.listener(s, l);
    else s.close();
  }

  #receive(s: Signal): void {
    let got: Inbound;
    try {
      got = readMessage(s);
    } catch {
      return;
    }
    if (this.#closed) return;
    if (got.kind === 'offer') return this.#receiveOffer(got);
    const n = this.#peers.get(got.from)?.attempt?.negotiation;
    if (n?.session === got.session) {
      n.receive(got);
    } else if (got.kind === 'candidate') {
      this.#early.push(got); // its offer may be still on its way
      if (this.#early.length > maxEarly) this.#early.shift();
    }
  }

  /** Answers an offer, unless it is stale, loses against ours or is too much. */
  #receiveOffer(got: Inbound): void {
    const p = this.#peer(got.from);
    if (got.message.time! <= p.offered) return; // a duplicate, or overtaken by a later one
    p.offered = got.message.time!;
    const a = p.attempt;
    if (a && !a.negotiation.offer && got.to < got.from) return a.negotiation.resend(); // both offer: that of the lesser address counts
    const reason = a ? '' : this.#refuses();
    if (reason) return void this.#refuse(got, reason);
    const n = this.#negotiation(got.from, got.session, got);
    const ours = (c: Inbound) => c.from === n.peer && c.session === n.session;
    for (const c of this.#early.filter(ours)) n.receive(c);
    this.#early = this.#early.filter(c => !ours(c));
    if (!a) {
      p.attempt = this.#start(p, n);
      return;
    }
    const old = a.negotiation;
    a.negotiation = n;
    old.cancel(new Error('another negotiation took its place'));
  }

  /** Tells why an offer out of the blue is refused. */
  #refuses(): string {
    if (!this.listener) return 'it shares nothing';
    const peers = [...this.#peers.values()];
    const halfOpen = peers.filter(p => p.attempt?.negotiation.offer).length;
    const incoming = peers.filter(p => p.link?.incoming).length;
    return halfOpen >= maxHalfOpen || incoming + halfOpen >= this.config.maxPeers ? 'it has too many connections' : '';
  }

  async #refuse(got: Inbound, reason: string): Promise<void> {
    if (this.#refusing >= maxHalfOpen) return;
    this.#refusing++;
    await this.#bye(got.from, got.session, reason);
    this.#refusing--;
  }

  async #bye(to: string, session: string, reason: string): Promise<void> {
    const signal = AbortSignal.timeout(byeTimeout);
    await this.config.signaler.send({ to, session, kind: 'bye', payload: payload({ reason }) }, signal).catch(() => {});
  }
}
