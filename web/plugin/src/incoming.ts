// What peers begin: offers, and the streams in the connections that come of them. Only sharers need it.
import { type Claim, type Place, Places, yields } from './fair.js';
import { peerOf } from './identity.js';
import type { Link } from './link.js';
import type { Inbound } from './negotiation.js';
import type { Transport } from './transport.js';
import type { Stream } from './yamux.js';

// How many strangers may be busy with us, and how much of that one of them may be: whoever takes much loses its own oldest,
// and nobody who is unknown takes the place of a peer that has a share open.
const maxHalfOpen = 64, halfOpenEach = 16; // negotiations that others have begun
const halfOpenSettle = 1000; // ms: so old a peer's oldest must be to give way to its next
const maxEarly = 64; // signals that came before their offer
const maxByes = 64, byesEach = 4; // refusals under way

const crowded = 'it has too many connections';

/** What a peer that connects takes up, until the link ends that it was taken for. */
export interface Seat {
  /** Becomes what comes of the attempt. */
  hold(made: Promise<Link>): void;
}

/** Answers offers for a transport, and gives the streams that peers open to a listener. */
export class Incoming {
  #early: Inbound[] = [];
  readonly #halfOpen = new Places({ max: maxHalfOpen, each: halfOpenEach, settle: halfOpenSettle });
  readonly #byes = new Places({ max: maxByes, each: byesEach, settle: Infinity });
  readonly #all: Places;

  /** rank is what is known of a peer: 0 nothing, 1 that it has opened a share before, 2 that the owner has named it. */
  constructor(private readonly transport: Transport, readonly listener: (s: Stream, l: Link) => void, private readonly rank: (peer: string) => number) {
    this.#all = new Places({ max: transport.config.maxPeers, firm: 1 });
  }

  #claim(address: string): Claim {
    const group = peerOf(address);
    return { group, rank: this.rank(group) };
  }

  /** Keeps a candidate whose offer may be still on its way. */
  candidate(got: Inbound): void {
    this.#early.push(got);
    if (this.#early.length > maxEarly) this.#early.splice(yields(this.#early.map(c => this.#claim(c.from))), 1);
  }

  /** Answers an offer, unless it is stale, loses against ours or is too much. */
  offer(got: Inbound): void {
    const t = this.transport, p = t.peer(got.from);
    if (got.message.time! <= p.offered) return; // a duplicate, or overtaken by a later one
    p.offered = got.message.time!;
    const a = p.attempt;
    if (a && !a.negotiation.offer && got.to < got.from) return a.negotiation.resend(); // both offer: that of the lesser address counts
    const n = t.negotiation(got.from, got.session, got), seat = a ? undefined : this.seat(got.from, () => n.cancel(new Error(crowded)));
    if (!a && !seat) return this.#refuse(got, crowded);
    const ours = (c: Inbound) => c.from === n.peer && c.session === n.session;
    for (const c of this.#early.filter(ours)) n.receive(c);
    this.#early = this.#early.filter(c => !ours(c));
    if (!a) {
      p.attempt = t.start(p, n);
      seat!.hold(p.attempt.link);
      return;
    }
    const old = a.negotiation;
    a.negotiation = n;
    old.cancel(new Error('another negotiation took its place'));
  }

  /** Makes room for a peer that connects; undefined: there is none. giveUp ends what it is for, until there is a link. */
  seat(address: string, giveUp: () => void): Seat | undefined {
    let link: Link | undefined, lost = false, half: Place | undefined, whole: Place | undefined;
    const who = () => this.#claim(address);
    const leave = () => {
      half?.leave();
      whole?.leave();
    };
    const lose = () => {
      lost = true;
      leave();
      if (link) void link.close(new Error(crowded));
      else giveUp();
    };
    half = this.#halfOpen.take(who, lose);
    whole = half && this.#all.take(who, lose);
    if (!whole) {
      half?.leave();
      return undefined;
    }
    const hold = (made: Promise<Link>) => void made.then(async l => {
      link = l;
      half!.leave();
      if (lost) void l.close(new Error(crowded));
      await l.ended;
    }).catch(() => {}).then(leave);
    return { hold };
  }

  #refuse(got: Inbound, reason: string): void {
    const place = this.#byes.take(() => this.#claim(got.from), () => {});
    if (place) void this.transport.bye(got.from, got.session, reason).finally(() => place.leave());
  }
}
