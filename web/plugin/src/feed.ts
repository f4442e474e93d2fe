import type { Directory } from './directory.js';
import { sharePrefix, signalPrefix } from './documents.js';
import { CouchError } from './errors.js';
import { type Change, type Hub, either, jitter, pause } from './hub.js';
import type { Mailbox } from './mailbox.js';

const retryMin = 250, retryMax = 30_000;

/** The number that sequences begin with in all implementations. */
const number = (seq: unknown): number => parseInt(String(seq), 10) || 0;

/**
 * Follows the hub's changes: one subscription for all that a page wants to know. It ends
 * with its signal only: after an error it reads what it may have missed, and goes on.
 */
export class Feed {
  #since = '';
  #wake?: () => void;
  #nudged = false;

  constructor(private readonly hub: Hub, private readonly dir: Directory, private readonly mailbox: Mailbox) {}

  /** Reads the hub's shares, and where to follow its changes from. */
  async list(): Promise<void> {
    const now = await this.hub.sequence();
    await this.dir.list(this.hub);
    // The feed goes on where it broke off, so that no signal is lost; from the
    // beginning if the hub has not come so far: it was made anew or restored.
    this.#since = this.#since === '' ? now : number(now) < number(this.#since) ? '0' : this.#since;
  }

  /** Asks the hub again at once: the network may be back, or another one. */
  nudge(): void {
    this.#wake?.();
  }

  /** Follows until signal is aborted. list has been called. */
  async run(signal: AbortSignal): Promise<void> {
    for (let wait = retryMin, lost = false; !signal.aborted;) {
      try {
        if (lost) await this.list();
        lost = false;
        await this.#until(signal, s => this.#follow(s));
        wait = retryMin;
      } catch (e) {
        lost = true;
        const ms = e instanceof CouchError && e.permanent ? retryMax : jitter(wait);
        if (!this.#nudged) await this.#until(signal, s => pause(ms, s));
        this.#nudged = false;
        wait = Math.min(2 * wait, retryMax);
      }
    }
  }

  /** Does what ends with a nudge, too. */
  async #until(signal: AbortSignal, fn: (s: AbortSignal) => Promise<unknown>): Promise<void> {
    const one = either(signal);
    this.#wake = () => {
      this.#nudged = true;
      one.abort(new Error('nudged'));
    };
    await fn(one.signal).finally(() => one.abort());
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const began = Date.now();
    const { rows, last } = await this.hub.changes(this.#since, signal);
    if (rows.some(r => r.seq && number(r.seq) < number(this.#since))) throw new Error("the hub's sequences start over");
    await Promise.all(rows.map(r => this.#change(r)));
    this.#since = last;
    if (!rows.length && Date.now() - began < 1000) await pause(1000, signal); // a server that does not wait must not be hammered
  }

  async #change(c: Change): Promise<void> {
    if (c.id.startsWith(sharePrefix)) {
      if (c.deleted || c.doc) await this.dir.apply(c.id, c.deleted ? undefined : c.doc);
    } else if (c.id.startsWith(signalPrefix) && !c.deleted && c.doc) {
      await this.mailbox.apply(c.doc);
    }
  }
}
