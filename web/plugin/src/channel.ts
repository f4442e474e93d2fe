import type { Bytes } from './encoding.js';

/** An ordered, reliable way for bytes, whose pieces mean nothing. */
export interface Wire {
  /** Is called with what comes. */
  onData?: (chunk: Bytes) => void;
  /** Is called once, when nothing can be sent or come any more. */
  onEnd?: (why: Error) => void;
  /** Sends at once, without regard to what is queued. */
  send(chunk: Bytes): void;
  /** Waits until there is room for more; undefined: there is. */
  room(): Promise<void> | undefined;
  /** Whether there is none. */
  readonly full?: boolean;
  /** Counts bytes that the peer sent or acknowledged: while it grows, the peer lives. */
  moved(): number;
  /** Waits until all is delivered, but no longer than ms, and ends the wire. */
  close(ms: number): Promise<void>;
}

/** A wire that carries a connection to a peer. */
export interface Carrier extends Wire {
  /** Ends the wire at once: nothing is sent or delivered any more. */
  end(why: Error): void;
}

export const channelLabel = 'loveseat', channelProtocol = 'yamux+http/1.1';

const messageSize = 16 << 10;
const highWater = 1 << 20; // a writer waits while more is queued,
const lowWater = 256 << 10; // until this much is. (send throws at 16 MiB.)

/** Throws unless it is the one channel that peers use. */
export function checkChannel(dc: RTCDataChannel): void {
  if (dc.label !== channelLabel || dc.protocol !== channelProtocol || !dc.ordered || dc.maxRetransmits !== null || dc.maxPacketLifeTime !== null) {
    throw new Error('the peer opened another channel');
  }
}

/** A data channel as a wire. */
export class Channel implements Carrier {
  onEnd?: (why: Error) => void;
  #deliver?: (chunk: Bytes) => void;
  #early: Bytes[] = [];
  #waiting: (() => void)[] = [];
  #ended?: Error;
  #read = 0;
  #written = 0;

  constructor(private readonly dc: RTCDataChannel) {
    dc.binaryType = 'arraybuffer';
    dc.bufferedAmountLowThreshold = lowWater;
    dc.onbufferedamountlow = () => this.#release();
    dc.onmessage = m => {
      if (!(m.data instanceof ArrayBuffer)) return this.end(new Error('the peer sent text'));
      this.#read += m.data.byteLength;
      const chunk = new Uint8Array(m.data);
      if (this.#deliver) this.#deliver(chunk);
      else this.#early.push(chunk); // a message can come before its reader is there
    };
    dc.onclose = () => this.end(new Error('the peer closed the connection'));
  }

  set onData(fn: (chunk: Bytes) => void) {
    if (this.#ended) return;
    this.#deliver = fn;
    for (const chunk of this.#early.splice(0)) fn(chunk);
  }

  /** Ends the wire: nothing is sent or delivered any more. */
  end(why: Error): void {
    if (this.#ended) return;
    this.#ended = why;
    this.#deliver = () => {};
    this.#release();
    this.onEnd?.(why);
  }

  #release(): void {
    for (const go of this.#waiting.splice(0)) go();
  }

  send(chunk: Bytes): void {
    if (this.#ended || this.dc.readyState !== 'open') return;
    try {
      for (let at = 0; at < chunk.length; at += messageSize) this.dc.send(chunk.subarray(at, at + messageSize));
      this.#written += chunk.length;
    } catch (e) {
      this.end(e as Error);
    }
  }

  get full(): boolean {
    return this.dc.bufferedAmount > highWater;
  }

  room(): Promise<void> | undefined {
    if (this.#ended || !this.full) return undefined;
    return new Promise(resolve => this.#waiting.push(resolve));
  }

  moved(): number {
    return this.#read + this.#written - this.dc.bufferedAmount;
  }

  async close(ms: number): Promise<void> {
    const till = Date.now() + ms;
    while (!this.#ended && this.dc.bufferedAmount > 0 && Date.now() < till) await new Promise(r => setTimeout(r, 10));
    this.end(new Error('closed'));
    this.dc.close();
  }
}
