import type { Carrier } from './channel.js';
import { Session, type Stream } from './yamux.js';

const keepAlive = 5000; // ms: how often the peer is asked whether it still listens
const silence = 10_000; // without an answer or any progress it is lost
const hurry = 3000; // the same, after the page was asleep or the network changed
const drainLimit = 2000; // how long closing waits for the peer to take what was written

/** How packets travel: "host", "srflx", "prflx" or "relay", "hub" through the hub's relay; "" while that is unknown. */
export type Route = string;

/** A connection to a peer and the streams in it: a peer connection, or one through the hub, which has none. */
export class Link {
  readonly session: Session;
  readonly since = Date.now();
  /** There is a better connection to the peer: new streams take that. */
  superseded = false;
  #route: Route;
  /** Resolves when the route is known. */
  readonly routed: Promise<void>;
  /** Resolves to why the link ended. */
  readonly ended: Promise<Error>;
  #resolve!: (why: Error) => void;
  readonly #watching: ReturnType<typeof setInterval>;
  #last = Date.now();
  #moved = 0;
  #asked = false;
  #over = false;

  /** incoming: the peer has offered it. Who offered is yamux's client. */
  constructor(readonly peer: string, readonly incoming: boolean, private readonly pc: RTCPeerConnection | undefined,
    private readonly channel: Carrier, onStream: (s: Stream, l: Link) => void) {
    this.#route = pc ? '' : 'hub';
    this.ended = new Promise(r => this.#resolve = r);
    this.session = new Session(channel, !incoming);
    this.session.onStream = stream => onStream(stream, this);
    this.session.onEnd = why => this.#finish(why);
    const state = () => {
      // After a remote close sctp says so in milliseconds, connectionState in seconds.
      if (pc?.connectionState === 'failed') this.#finish(new Error('the connection to the peer is lost'));
      else if (pc?.sctp?.state === 'closed' || pc?.connectionState === 'closed') this.#finish(new Error('the peer closed the connection'));
    };
    if (pc) pc.onconnectionstatechange = state;
    if (pc?.sctp) pc.sctp.onstatechange = state;
    this.#watching = setInterval(() => this.#watch(silence), keepAlive);
    this.session.start();
    this.routed = this.#findRoute();
  }

  /** Whether streams can be opened. */
  get alive(): boolean {
    return !this.#over && this.session.alive;
  }

  /** Ends the link if the peer neither answers nor moves anything else, as a frozen tab. */
  #watch(limit: number): void {
    const moved = this.channel.moved();
    if (moved !== this.#moved) this.#last = Date.now();
    this.#moved = moved;
    if (Date.now() - this.#last > limit) return this.#finish(new Error('the connection to the peer is lost'));
    if (!this.#route) void this.#findRoute();
    if (this.#asked) return;
    this.#asked = true;
    void this.session.ping().then(() => {
      this.#asked = false;
      this.#last = Date.now();
    });
  }

  /** Finds out soon whether the peer is still there. */
  check(): void {
    this.#last = Date.now();
    this.#asked = false;
    this.#watch(hurry);
    setTimeout(() => this.#over || this.#watch(hurry - 1), hurry);
  }

  /** Closes the link after what was written has been delivered. */
  async close(why = new Error('closed')): Promise<void> {
    if (this.#over) return;
    this.session.goAway();
    this.session.onEnd = undefined;
    const closing = this.channel.close(drainLimit);
    this.session.fail(why);
    await closing;
    this.#finish(why);
  }

  /** Ends the link at once, as when the page goes away. */
  abandon(): void {
    this.session.goAway();
    this.#finish(new Error('closed'));
  }

  #finish(why: Error): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#watching);
    this.session.fail(why);
    this.channel.end(why);
    this.pc?.close();
    this.#resolve(why);
  }

  /** How the packets travel at the moment. */
  get route(): Route {
    const pair = this.pc?.sctp?.transport?.iceTransport?.getSelectedCandidatePair?.();
    return pair ? routeOf(pair.local?.type, pair.remote?.type) : this.#route;
  }

  /** Asks the statistics, in browsers that do not tell the pair. */
  async #findRoute(): Promise<void> {
    try {
      const stats = await this.pc!.getStats();
      for (const s of stats.values()) {
        if (s.type !== 'candidate-pair' || !s.nominated || s.state !== 'succeeded') continue;
        this.#route = routeOf(stats.get(s.localCandidateId)?.candidateType, stats.get(s.remoteCandidateId)?.candidateType);
      }
    } catch { /* closed meanwhile */ }
  }
}

const routeOf = (...types: unknown[]): Route => ['relay', 'prflx', 'srflx', 'host'].find(t => types.includes(t)) ?? '';
