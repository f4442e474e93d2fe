// Yamux (github.com/hashicorp/yamux, spec.md): many streams over one wire. A frame has a
// header of version, type, flags (2), stream (4) and length (4 bytes, big endian).
import type { Wire } from './channel.js';
import { type Bytes, concat, Pile } from './encoding.js';

const DATA = 0, WINDOW = 1, PING = 2, GOAWAY = 3;
const SYN = 1, ACK = 2, FIN = 4, RST = 8;
const header = 12;
const frameBody = (16 << 10) - header; // one message of the data channel
const initialWindow = 256 << 10;
const maxWindow = 2 << 20; // what a stream's reader may leave unread,
const maxUnread = 16 << 20; // or its part of this, if there are many: 64 MiB at most for all of a session
const maxStreams = 128; // that the peer has opened
const maxPings = 100; // in a second
const maxUnsent = 1 << 20; // bytes of frames that answer the peer's, which does not take them

function frame(type: number, flags: number, id: number, length: number): Bytes {
  const f = new Uint8Array(header), v = new DataView(f.buffer);
  v.setUint32(0, type << 16 | flags);
  v.setUint32(4, id);
  v.setUint32(8, length);
  return f;
}

/** A duplex stream of bytes. Each side ends its own direction. */
export class Stream {
  /** Is called once, when the peer has ended its direction or the stream has failed. */
  onEnd?: () => void;
  #queue = new Pile();
  #window = initialWindow; // what the peer may still send
  #credit = initialWindow; // what we may still send
  #finished = false; // the peer's direction has ended
  #ended = false; // ours
  #unread = false; // nobody will read any more
  #error?: Error;
  #readers: (() => void)[] = [];
  #writers: (() => void)[] = [];

  constructor(private readonly session: Session, readonly id: number, flag: number) {
    this.#update(flag);
  }

  /** Whether nothing more will come than what has. */
  get done(): boolean {
    return this.#finished || !!this.#error;
  }

  /** Returns what has come, or comes next; undefined at the end. Throws when the stream has failed. */
  async read(): Promise<Bytes | undefined> {
    while (!this.#queued && !this.done) await new Promise<void>(r => this.#readers.push(r));
    if (this.#error) throw this.#error;
    const chunk = this.#queue.take();
    this.#update(0);
    return chunk.length ? chunk : undefined;
  }

  get #queued(): number {
    return this.#queue.bytes.length;
  }

  /** Grants the peer room for more when it is worth a frame. */
  #update(flags: number): void {
    if (!flags && this.done) return;
    const size = Math.max(initialWindow, Math.min(maxWindow, maxUnread / (this.session.streams.size + 1) | 0)), delta = Math.max(size - this.#queued - this.#window, 0);
    if (!flags && delta < size / 2) return;
    this.#window += delta;
    this.session.send(frame(WINDOW, flags, this.id, delta));
  }

  /** Sends bytes, as the peer and the wire make room. Throws when the stream has ended or failed. */
  async write(bytes: Bytes): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      while (!this.#credit && !this.#error) await new Promise<void>(r => this.#writers.push(r));
      await this.session.wire.room();
      if (this.#error || this.#ended) throw this.#error ?? new Error('the stream has ended');
      const n = Math.min(this.#credit, frameBody, bytes.length - at);
      if (!n) continue; // another writer was quicker
      this.#credit -= n;
      this.session.send(concat(frame(DATA, 0, this.id, n), bytes.subarray(at, at + n)));
      at += n;
    }
  }

  /** Ends our direction, after what was written. */
  end(): void {
    if (this.#ended || this.#error) return;
    this.#ended = true;
    this.session.send(frame(WINDOW, FIN, this.id, 0));
    if (this.#finished) this.session.forget(this);
  }

  /** Ends both directions; what still comes is refused. */
  close(): void {
    this.#unread = true;
    if (this.#queued) this.reset();
    else this.end();
  }

  /** Ends both directions at once, and tells the peer. */
  reset(why: Error = new Error('the stream was reset')): void {
    if (this.#error || (this.#ended && this.#finished)) return;
    this.session.send(frame(WINDOW, RST, this.id, 0));
    this.session.forget(this);
    this.fail(why);
  }

  /** @internal The stream is lost. */
  fail(why: Error): void {
    if (this.#error) return;
    this.#error = why;
    this.#queue.take();
    this.#wake();
  }

  #wake(): void {
    for (const go of [...this.#readers.splice(0), ...this.#writers.splice(0)]) go();
    if (!this.done) return;
    const tell = this.onEnd;
    this.onEnd = undefined;
    tell?.();
  }

  /** @internal Some of the body of a data frame. false: more than the peer may send. */
  receive(chunk: Bytes): boolean {
    this.#window -= chunk.length;
    if (this.#window < 0 || this.#finished) return false;
    if (this.#unread) {
      this.reset();
    } else if (!this.#error) {
      this.#queue.add(chunk);
      this.#wake();
    }
    return true;
  }

  /** @internal The flags of a frame, and a window update's credit. */
  control(flags: number, credit: number): void {
    this.#credit += credit;
    if (flags & FIN && !this.#finished) {
      this.#finished = true;
      if (this.#ended) this.session.forget(this);
    }
    if (flags & RST) {
      this.session.forget(this);
      this.fail(new Error('the peer reset the stream'));
    }
    this.#wake();
  }
}

/** One end of a wire that carries streams. The client's streams have odd numbers. */
export class Session {
  /** Is called with each stream that the peer opens. */
  onStream?: (s: Stream) => void;
  /** Is called once, when the session has ended. */
  onEnd?: (why: Error) => void;
  readonly streams = new Map<number, Stream>();
  #next: number;
  #incoming = 0;
  #head: Bytes = new Uint8Array(header);
  #have = 0;
  #body = 0; // bytes of a data frame that are still to come
  #target?: Stream;
  #ended?: Error;
  #refusing = false; // the peer takes no more streams
  #pongs = new Map<number, () => void>();
  #pings = { since: 0, n: 0, sent: 0 };
  #unsent = 0;

  constructor(readonly wire: Wire, client: boolean) {
    this.#next = client ? 1 : 2;
    wire.onEnd = why => this.fail(why);
  }

  /** Begins to read; onStream is set. */
  start(): this {
    this.wire.onData = chunk => this.#parse(chunk);
    return this;
  }

  /** Whether streams can be opened. */
  get alive(): boolean {
    return !this.#ended && !this.#refusing;
  }

  /** Opens a stream, which can be written to at once. */
  open(): Stream {
    if (!this.alive) throw this.#ended ?? new Error('the peer closed the connection');
    const s = new Stream(this, this.#next, SYN);
    this.streams.set(this.#next, s);
    this.#next += 2;
    return s;
  }

  /** Asks the peer for a sign of life. */
  ping(): Promise<void> {
    return new Promise(resolve => {
      this.#pongs.set(++this.#pings.sent, resolve);
      this.send(frame(PING, SYN, 0, this.#pings.sent));
    });
  }

  /** Tells the peer that no more streams are welcome. */
  goAway(): void {
    this.send(frame(GOAWAY, 0, 0, 0));
  }

  /** @internal */
  send(f: Bytes): void {
    if (this.#ended) return;
    this.#unsent = this.wire.full ? this.#unsent + f.length : 0;
    if (this.#unsent > maxUnsent) return this.fail(new Error('the connection to the peer is lost')); // it takes no answers
    this.wire.send(f);
  }

  /** @internal */
  forget(s: Stream): void {
    if (this.streams.delete(s.id) && this.#theirs(s.id)) this.#incoming--;
  }

  #theirs(id: number): boolean {
    return id % 2 !== this.#next % 2;
  }

  /** Ends the session and its streams. */
  fail(why: Error): void {
    if (this.#ended) return;
    this.#ended = why;
    for (const s of this.streams.values()) s.fail(why);
    this.streams.clear();
    this.#pongs.clear();
    this.onEnd?.(why);
  }

  #parse(chunk: Bytes): void {
    while (chunk.length && !this.#ended) {
      if (this.#body) {
        const part = chunk.subarray(0, this.#body);
        this.#body -= part.length;
        chunk = chunk.subarray(part.length);
        if (this.#target && !this.#target.receive(part)) this.#broken('more than the window');
        continue;
      }
      const n = Math.min(header - this.#have, chunk.length);
      this.#head.set(chunk.subarray(0, n), this.#have);
      this.#have += n;
      chunk = chunk.subarray(n);
      if (this.#have === header) {
        this.#have = 0;
        this.#dispatch(new DataView(this.#head.buffer));
      }
    }
  }

  #broken(what: string): void {
    this.send(frame(GOAWAY, 0, 0, 1));
    this.fail(new Error(`the peer breaks the protocol: ${what}`));
  }

  #dispatch(h: DataView): void {
    const first = h.getUint32(0), type = first >>> 16, flags = first & 0xffff, id = h.getUint32(4), length = h.getUint32(8);
    if (type > GOAWAY) return this.#broken('unknown frame');
    if (type === PING) return this.#pinged(flags, length);
    if (type === GOAWAY) {
      this.#refusing = true;
      if (length) this.fail(new Error(`the peer ended the session: ${length}`));
      return;
    }
    if (flags & SYN && !this.#accept(id)) return;
    const s = this.streams.get(id);
    if (type === DATA) {
      this.#body = length;
      this.#target = s; // what comes for a stream that has gone is dropped
    }
    s?.control(flags & ~SYN, type === WINDOW ? length : 0);
  }

  /** Takes a stream that the peer opens. false: the session is broken. */
  #accept(id: number): boolean {
    if (!this.#theirs(id) || this.streams.has(id)) {
      this.#broken('stream number');
      return false;
    }
    if (!this.onStream || this.#incoming >= maxStreams) {
      this.send(frame(WINDOW, RST, id, 0));
      return true;
    }
    const s = new Stream(this, id, ACK);
    this.#incoming++;
    this.streams.set(id, s);
    this.onStream(s);
    return true;
  }

  #pinged(flags: number, value: number): void {
    if (flags & ACK) {
      this.#pongs.get(value)?.();
      this.#pongs.delete(value);
      return;
    }
    const now = Date.now();
    if (now - this.#pings.since > 1000) this.#pings = { ...this.#pings, since: now, n: 0 };
    if (++this.#pings.n > maxPings) return this.#broken('too many pings');
    this.send(frame(PING, ACK, 0, value));
  }
}
