// Who gives way where many share what is bounded, so that whoever takes much keeps nobody else out: its own oldest go
// first. The rules are those of Go's internal/fair.

/** For whom something is held. All of a group counts together; a lower rank gives way to a higher one, never the other way round. */
export interface Claim { group: string; rank: number }

/** Returns the index of the claim, of those in the order of arrival, that gives way first: the lowest rank, then what has most of its own group after it, then the oldest. */
export function yields(claims: Claim[]): number {
  const sums = new Map<string, number>();
  let at = -1, most = 0;
  for (let i = claims.length - 1; i >= 0; i--) {
    const { group, rank } = claims[i]!, depth = (sums.get(group) ?? 0) + 1;
    sums.set(group, depth);
    if (at < 0 || rank < claims[at]!.rank || rank === claims[at]!.rank && depth >= most) [at, most] = [i, depth];
  }
  return at;
}

/** How places are given. */
export interface PlaceOptions {
  max: number;
  /** For one group, whose oldest gives way to its next. */
  each?: number;
  /** ms: a place is not given to another one of its own group before it is so old. */
  settle?: number;
  /** From this rank on nobody gives way to one who would then hold as much. */
  firm?: number;
}

/** Is held until leave, or until its holder is told to give way. */
export interface Place { leave(): void }

interface Held { who: () => Claim; evict: () => void; since: number }

/** A bounded number of places. */
export class Places {
  #held: Held[] = []; // oldest first

  constructor(private readonly o: PlaceOptions) {}

  /** Takes a place. who is asked for the claim whenever somebody must give way. undefined: it would be the newcomer. */
  take(who: () => Claim, evict: () => void): Place | undefined {
    const mine: Held = { who, evict, since: Date.now() }, out = this.#victim(mine);
    if (out === mine) return undefined;
    this.#held.push(mine);
    const leave = (h: Held) => this.#held = this.#held.filter(x => x !== h);
    if (out) {
      leave(out);
      out.evict();
    }
    return { leave: () => leave(mine) };
  }

  /** Who gives way to a newcomer; undefined: there is room. */
  #victim(newcomer: Held): Held | undefined {
    const { max, each = max, settle = 0, firm = Infinity } = this.o, held = this.#held, mine = newcomer.who();
    if (held.length < Math.min(each, max)) return undefined;
    const claims = held.map(h => h.who()), of = (group: string) => claims.filter(c => c.group === group).length, own = of(mine.group);
    const settled = (h: Held) => Date.now() - h.since >= settle ? h : newcomer;
    if (own >= each) return settled(held[claims.findIndex(c => c.group === mine.group)]!);
    if (held.length < max) return undefined;
    const at = yields([...claims, mine]), out = held[at], claim = claims[at];
    if (!out || !claim) return newcomer;
    if (claim.group === mine.group) return settled(out);
    return claim.rank < firm || claim.rank < mine.rank || of(claim.group) > own + 1 ? out : newcomer;
  }
}
