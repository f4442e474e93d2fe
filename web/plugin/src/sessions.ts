import type { Signal } from './documents.js';
import { type Keys, peerOf } from './identity.js';

const sessionIdle = 3_600_000; // ms: then a session is over, and forgotten
const maxSessions = 256; // of a page that shares nothing, which has dealings with a few
const maxOut = 20_000; // that we have sent in
const maxHeld = 64; // signals that wait for an earlier one of their session

/** A session that another peer has begun: bytes wait for earlier ones. */
export interface In { peer: string; keys: Keys; next: number; held: Map<number, Signal>; bytes: number; used: number }

/**
 * Puts incoming signals into order, and refuses those seen before. A session is named by
 * the sender's address and the session's name; its signals are numbered, so that a hub
 * that tells them out of order or twice does no harm. Times are in milliseconds. A session that
 * gives way to others could be replayed, which harms its sender alone.
 */
export class Sessions {
  readonly #in = new Map<string, In>(); // the longest unused first
  readonly #out = new Map<string, { next: number; used: number }>();

  /** Makes room for more of a sender. Sharers, whom all know, are fair: see crowd. */
  makeRoom = (all: Map<string, In>, _peer: string, sessions: number, _bytes: number): void => {
    if (all.size + sessions > maxSessions) all.delete(all.keys().next().value!);
  };

  /** Takes a verified signal and returns those that can now be delivered. Throws at a replay, or too many. */
  accept(s: Signal, seq: number, keys: Keys, now: number): Signal[] {
    const key = `${s.from} ${s.session}`, peer = peerOf(s.from), size = s.payload.length;
    this.makeRoom(this.#in, peer, +!this.#in.has(key), size);
    const session = this.#in.get(key) ?? { peer, keys, next: 0, held: new Map(), bytes: 0, used: now };
    this.#in.delete(key);
    this.#in.set(key, session);
    session.used = now;
    session.keys = keys;
    if (seq < session.next || session.held.has(seq)) throw new Error(`number ${seq} was used before`);
    if (seq >= session.next + maxHeld) throw new Error(`number ${seq} is too far ahead`);
    session.held.set(seq, s);
    session.bytes += size;
    const ready: Signal[] = [];
    for (let next; (next = session.held.get(session.next)); session.next++) {
      session.held.delete(session.next);
      session.bytes -= next.payload.length;
      ready.push(next);
    }
    return ready;
  }

  /** Returns the number of the next signal to an address in a session. */
  number(to: string, session: string, now: number): number {
    const key = `${to} ${session}`, out = this.#out.get(key) ?? { next: 0, used: now };
    this.#out.set(key, out);
    if (this.#out.size > maxOut) this.#out.delete(this.#out.keys().next().value!);
    out.used = now;
    return out.next++;
  }

  /** Returns the public keys of who has sent to us in a session. */
  keysOf(address: string, session: string): Keys | undefined {
    return this.#in.get(`${address} ${session}`)?.keys;
  }

  /** Drops sessions in which nothing has come or gone for so long. */
  forget(now: number, idle = sessionIdle): void {
    for (const all of [this.#in, this.#out]) for (const [k, s] of all) if (now - s.used > idle) all.delete(k);
  }
}
