import { type Signal, signalAge } from './documents.js';
import type { Keys } from './identity.js';

const sessionIdle = 3_600_000; // ms: then a session is over, and forgotten
const maxSessions = 10_000;
const maxHeld = 64; // signals that wait for an earlier one of their session

interface In { keys: Keys; next: number; held: Map<number, Signal>; used: number }

/**
 * Puts incoming signals into order, and refuses those seen before. A session is named by
 * the sender's address and the session's name; its signals are numbered, so that a hub
 * that tells them out of order or twice does no harm. Times are in milliseconds.
 */
export class Sessions {
  readonly #in = new Map<string, In>();
  readonly #out = new Map<string, { next: number; used: number }>();

  /** Takes a verified signal and returns those that can now be delivered. Throws at a replay, or too many. */
  accept(s: Signal, seq: number, keys: Keys, now: number): Signal[] {
    const key = `${s.from} ${s.session}`;
    let session = this.#in.get(key);
    if (!session) {
      if (this.#in.size >= maxSessions) this.forget(now, 2 * signalAge);
      if (this.#in.size >= maxSessions) throw new Error('too many sessions');
      session = { keys, next: 0, held: new Map(), used: now };
      this.#in.set(key, session);
    }
    session.used = now;
    session.keys = keys;
    if (seq < session.next || session.held.has(seq)) throw new Error(`number ${seq} was used before`);
    if (seq >= session.next + maxHeld) throw new Error(`number ${seq} is too far ahead`);
    session.held.set(seq, s);
    const ready: Signal[] = [];
    for (let next; (next = session.held.get(session.next)); session.next++) {
      session.held.delete(session.next);
      ready.push(next);
    }
    return ready;
  }

  /** Returns the number of the next signal to an address in a session. */
  number(to: string, session: string, now: number): number {
    const key = `${to} ${session}`;
    const out = this.#out.get(key) ?? { next: 0, used: now };
    this.#out.set(key, out);
    out.used = now;
    return out.next++;
  }

  /** Returns the public keys of who has sent to us in a session. */
  keysOf(address: string, session: string): Keys | undefined {
    return this.#in.get(`${address} ${session}`)?.keys;
  }

  /** Drops sessions in which nothing has come or gone for so long. */
  forget(now: number, idle = sessionIdle): void {
    for (const [k, s] of this.#in) if (now - s.used > idle) this.#in.delete(k);
    for (const [k, s] of this.#out) if (now - s.used > Math.max(idle, sessionIdle)) this.#out.delete(k);
  }
}
