// What peers begin: offers, and the streams in the connections that come of them. Only sharers need it.
import type { Link } from './link.js';
import type { Inbound } from './negotiation.js';
import type { Transport } from './transport.js';
import type { Stream } from './yamux.js';

// What strangers may make us remember.
const maxHalfOpen = 64; // negotiations that others have begun
const maxEarly = 64; // signals that came before their offer

/** Answers offers for a transport, and gives the streams that peers open to a listener. */
export class Incoming {
  #early: Inbound[] = [];
  #refusing = 0;

  constructor(private readonly transport: Transport, readonly listener: (s: Stream, l: Link) => void) {}

  /** Keeps a candidate whose offer may be still on its way. */
  candidate(got: Inbound): void {
    this.#early.push(got);
    if (this.#early.length > maxEarly) this.#early.shift();
  }

  /** Answers an offer, unless it is stale, loses against ours or is too much. */
  offer(got: Inbound): void {
    const t = this.transport, p = t.peer(got.from);
    if (got.message.time! <= p.offered) return; // a duplicate, or overtaken by a later one
    p.offered = got.message.time!;
    const a = p.attempt;
    if (a && !a.negotiation.offer && got.to < got.from) return a.negotiation.resend(); // both offer: that of the lesser address counts
    const reason = a ? '' : this.refuses();
    if (reason) return void this.#refuse(got, reason);
    const n = t.negotiation(got.from, got.session, got);
    const ours = (c: Inbound) => c.from === n.peer && c.session === n.session;
    for (const c of this.#early.filter(ours)) n.receive(c);
    this.#early = this.#early.filter(c => !ours(c));
    if (!a) {
      p.attempt = t.start(p, n);
      return;
    }
    const old = a.negotiation;
    a.negotiation = n;
    old.cancel(new Error('another negotiation took its place'));
  }

  /** Tells why an offer out of the blue is refused. */
  refuses(): string {
    const peers = [...this.transport.peers.values()];
    const halfOpen = peers.filter(p => p.attempt?.negotiation.offer).length;
    const incoming = this.transport.links().filter(l => l.incoming).length;
    return halfOpen >= maxHalfOpen || incoming + halfOpen >= this.transport.config.maxPeers ? 'it has too many connections' : '';
  }

  async #refuse(got: Inbound, reason: string): Promise<void> {
    if (this.#refusing >= maxHalfOpen) return;
    this.#refusing++;
    await this.transport.bye(got.from, got.session, reason);
    this.#refusing--;
  }
}
