import { randomHex } from './encoding.js';
import { Link } from './link.js';
import type { Carrier } from './channel.js';
import { pause } from './hub.js';
import { type Inbound, Negotiation, type NegotiationConfig, payload, readMessage, RefusedError } from './negotiation.js';
import type { Signal } from './documents.js';
import type { Incoming } from './incoming.js';
import type { Relays } from './relay.js';
import type { Stream } from './yamux.js';

const maxPeers = 4096; // peers of whom we remember the last offer
const byeTimeout = 3000; // ms
const relayAfter = 4000; // ms: how long a direct path may take to be found

/** Tells that a connection to a peer has opened or closed. */
export interface PeerEvent { peer: string; state: 'connected' | 'closed'; route?: string; error?: Error }

/** How a transport connects. */
export interface TransportConfig extends NegotiationConfig {
  /** Bounds the connections that others have opened to this page. */
  maxPeers: number;
  onPeer: (e: PeerEvent) => void;
  /** When connections go through the hub, and what makes them, which is loaded when it is needed. */
  relay: { mode: 'auto' | 'hub' | 'off'; load: () => Promise<Relays> };
}

/** What is known of a peer. link is direct, relay through the hub; relaying makes one. */
export interface PeerRecord { link?: Link; relay?: Link; attempt?: Attempt; relaying?: Promise<Link>; offered: number }

/** Makes a link, by one negotiation or, when another takes its place, several. */
interface Attempt { negotiation: Negotiation; link: Promise<Link> }

/** Connects this peer to others by WebRTC: one peer connection with each, which carries the streams that either side opens. */
export class Transport {
  readonly peers = new Map<string, PeerRecord>();
  /** Takes what peers begin; undefined: this page only opens shares, and nobody knows its address. */
  incoming?: Incoming;
  #clock = 0;
  closed = false;

  constructor(readonly config: TransportConfig) {
    config.signaler.onSignal = s => this.#receive(s);
  }

  /** Opens a stream to a peer, over the connection there is or a new one. Throws a ConnectError. */
  async dial(addr: string): Promise<{ stream: Stream; link: Link }> {
    for (let attempts = 0; ; attempts++) {
      if (this.closed) throw new Error('closed');
      const p = this.peer(addr);
      let link = [p.link, p.relay].find(l => l?.alive);
      if (!link) {
        const joined = p.attempt?.negotiation.offer;
        try {
          link = await this.#reach(p, addr);
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
    return [...this.peers.values()].flatMap(p => [p.link, p.relay].filter(l => !!l));
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    this.closed = true;
    for (const p of this.peers.values()) p.attempt?.negotiation.cancel(new Error('closed'));
    await Promise.all(this.links().map(l => l.close()));
  }

  /** The record of a peer. */
  peer(addr: string): PeerRecord {
    let p = this.peers.get(addr);
    if (p) return p;
    if (this.peers.size >= maxPeers) for (const [a, q] of this.peers) if (!q.link && !q.relay && !q.attempt && !q.relaying) this.peers.delete(a);
    this.peers.set(addr, p = { offered: 0 });
    return p;
  }

  negotiation(peer: string, session: string, offer?: Inbound): Negotiation {
    this.#clock = Math.max(this.#clock + 1, Date.now());
    return new Negotiation(peer, session, offer, this.#clock, this.config);
  }

  start(p: PeerRecord, n: Negotiation): Attempt {
    const a: Attempt = { negotiation: n, link: undefined! };
    a.link = this.#run(p, a);
    a.link.catch(() => {});
    return a;
  }

  /** Negotiates until the attempt's last negotiation has an outcome. */
  async #run(p: PeerRecord, a: Attempt): Promise<Link> {
    for (;;) {
      const n = a.negotiation;
      try {
        const channel = await n.run();
        if (a.negotiation !== n || this.closed) n.pc!.close();
        if (this.closed) throw new Error('closed');
        if (a.negotiation !== n) continue;
        p.attempt = undefined;
        return this.#adopt(p, new Link(n.peer, !!n.offer, n.pc!, channel, (s, l) => this.accept(s, l)));
      } catch (e) {
        if (a.negotiation !== n) continue;
        p.attempt = undefined;
        if (!((e as Error).cause instanceof RefusedError)) void this.bye(n.peer, n.session, 'closed');
        throw e;
      }
    }
  }

  #adopt(p: PeerRecord, link: Link): Link {
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

  /** Connects to a peer directly. */
  direct(p: PeerRecord, addr: string): Promise<Link> {
    return (p.attempt ??= this.start(p, this.negotiation(addr, randomHex(16)))).link;
  }

  /** Connects to a peer: directly, or through the hub if that fails or takes too long. */
  #reach(p: PeerRecord, addr: string): Promise<Link> {
    const { mode, load } = this.config.relay;
    const direct = mode === 'hub' ? Promise.reject(new Error('closed')) : this.direct(p, addr);
    if (mode === 'off') return direct;
    const through = p.relaying ??= Promise.race([direct.catch(e => {
      if (e.cause instanceof RefusedError && !/hub only/.test(e.message)) throw e;
    }), pause(relayAfter)]).then(async l => l instanceof Link ? l : (await load()).call(p, addr)).finally(() => p.relaying = undefined);
    return Promise.any([direct, through]).catch(() => mode === 'hub' ? through : direct);
  }

  /** Makes a link of a carrier that is no data channel. */
  makeLink(peer: string, incoming: boolean, c: Carrier): Link {
    return new Link(peer, incoming, undefined, c, (s, l) => this.accept(s, l));
  }

  /** Takes a stream that a peer opens. */
  accept(s: Stream, l: Link): void {
    if (this.incoming) this.incoming.listener(s, l);
    else s.close();
  }

  #receive(s: Signal): void {
    const { mode, load } = this.config.relay;
    if (s.kind === 'relay') return void (mode !== 'off' && this.incoming && load().then(r => r.answer(s)).catch(() => {}));
    let got: Inbound;
    try {
      got = readMessage(s);
    } catch {
      return;
    }
    if (this.closed) return;
    if (got.kind === 'offer') return this.incoming?.offer(got);
    const n = this.peers.get(got.from)?.attempt?.negotiation;
    if (n?.session === got.session) {
      n.receive(got);
    } else if (got.kind === 'candidate') {
      this.incoming?.candidate(got);
    }
  }

  async bye(to: string, session: string, reason: string): Promise<void> {
    const signal = AbortSignal.timeout(byeTimeout);
    await this.config.signaler.send({ to, session, kind: 'bye', payload: payload({ reason }) }, signal).catch(() => {});
  }
}
