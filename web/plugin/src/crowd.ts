// How many sessions a sharer remembers, so that no flood of signals, however well signed, takes much memory or keeps others out.
import type { In } from './sessions.js';

const maxSessions = 10_000, maxPeerSessions = 1000; // of all senders, and of one
const maxHeld = 4 << 20, maxPeerHeld = 1 << 20; // bytes that wait for earlier signals

/** Makes room for more sessions and bytes of a sender. */
export function crowd(all: Map<string, In>, peer: string, sessions: number, bytes: number): void {
  room(all, peer, () => 1, sessions, maxPeerSessions, maxSessions);
  room(all, peer, i => i.bytes, bytes, maxPeerHeld, maxHeld);
}

/** The oldest sessions of whoever takes up most go, the sender's own if it has its part. */
function room(all: Map<string, In>, peer: string, size: (i: In) => number, more: number, each: number, most: number): void {
  while (more) {
    const sums = new Map([[peer, more]]);
    let total = more, heaviest = peer;
    for (const i of all.values()) {
      total += size(i);
      sums.set(i.peer, (sums.get(i.peer) ?? 0) + size(i));
    }
    const mine = sums.get(peer)!;
    if (mine <= each && total <= most) return;
    if (mine <= each) for (const [p, n] of sums) if (n > sums.get(heaviest)!) heaviest = p;
    const oldest = [...all].find(([, i]) => i.peer === heaviest && size(i));
    if (!oldest) return;
    all.delete(oldest[0]);
  }
}
