// HTTP/1.1 (RFC 9112) over streams, both ends, with fetch's Request and Response as its values.
import { foreignAnswer } from './answer.js';
import { type Bytes, concat, Pile, text, utf8 } from './encoding.js';

/** What HTTP needs of a stream. */
export interface Duplex {
  onEnd?: () => void;
  readonly done: boolean;
  read(): Promise<Bytes | undefined>;
  write(bytes: Bytes): Promise<void>;
  close(): void;
  reset(why?: Error): void;
}

const maxHead = 64 << 10, maxFields = 200, maxInterim = 20;
const cut = () => new Error('the connection ended too soon');

/** A connection's incoming bytes. */
export class Reader {
  readonly #pile = new Pile();

  constructor(private readonly source: Duplex) {}

  async #fill(): Promise<boolean> {
    const chunk = await this.source.read();
    if (chunk) this.#pile.add(chunk);
    return !!chunk;
  }

  /** Returns what comes next, at most n bytes; undefined at the end. */
  async some(n: number): Promise<Bytes | undefined> {
    if (!this.#pile.bytes.length && !await this.#fill()) return undefined;
    return this.#pile.take(n);
  }

  /** Returns the text up to a line end, and passes over that; undefined if the connection ends before it begins. */
  async line(limit = maxHead): Promise<string | undefined> {
    for (let from = 0; ;) {
      const { bytes } = this.#pile, at = bytes.indexOf(10, from);
      if (at > limit || (at < 0 && bytes.length > limit)) throw new Error('line too long');
      if (at >= 0) {
        const line = text(this.#pile.take(at + 1).subarray(0, at));
        return line.endsWith('\r') ? line.slice(0, -1) : line;
      }
      from = bytes.length;
      if (!await this.#fill()) {
        if (from) throw cut();
        return undefined;
      }
    }
  }
}

/** The beginning of a message. */
export interface Head { start: string; headers: Headers; lengths: Set<string> }

/** Reads a start line and header fields; undefined if the connection ends before. */
export async function readHead(r: Reader): Promise<Head | undefined> {
  const start = await r.line();
  if (start === undefined) return undefined;
  const head: Head = { start, headers: new Headers(), lengths: new Set() };
  for (let size = start.length, fields = 0; ; fields++) {
    const line = await r.line();
    if (line === undefined) throw cut();
    if (line === '') return head;
    size += line.length;
    const field = /^([!#$%&'*+.^_`|~\w-]+):(.*)$/.exec(line);
    if (!field || size > maxHead || fields >= maxFields) throw new Error('malformed header');
    const value = field[2]!.trim();
    head.headers.append(field[1]!, value);
    if (/^content-length$/i.test(field[1]!)) head.lengths.add(value);
  }
}

/** Returns the length of a body: a number, 'chunked', or undefined if the header does not say. */
export function framing({ headers, lengths }: Head): number | 'chunked' | undefined {
  const coding = headers.get('transfer-encoding');
  if (coding !== null) {
    if (coding.toLowerCase() !== 'chunked' || lengths.size) throw new Error('unknown transfer encoding');
    return 'chunked';
  }
  if (!lengths.size) return undefined;
  const [length] = lengths;
  if (lengths.size > 1 || !/^\d{1,15}$/.test(length!)) throw new Error('malformed content length');
  return Number(length);
}

/** Gives the pieces of a body; undefined length: up to the connection's end. */
export async function* bodyOf(r: Reader, length: number | 'chunked' | undefined): AsyncGenerator<Bytes, void> {
  if (length !== 'chunked') {
    for (let left = length ?? Infinity; left > 0;) {
      const part = await r.some(left);
      if (!part && length === undefined) return;
      if (!part) throw cut();
      left -= part.length;
      yield part;
    }
    return;
  }
  for (;;) {
    const size = /^([0-9a-f]{1,8})[ \t]*(;.*)?$/i.exec(await r.line(1024) ?? '');
    if (!size) throw new Error('malformed chunk');
    const n = parseInt(size[1]!, 16);
    if (!n) break;
    yield* bodyOf(r, n);
    if (await r.line(2) !== '') throw new Error('malformed chunk');
  }
  for (let n = maxFields; await r.line();) if (!n--) throw new Error('too many trailers');
}

/** Reads a body whole. Throws a RangeError beyond limit bytes. */
export async function readAll(parts: AsyncIterable<Bytes>, limit: number): Promise<Bytes> {
  const pile = new Pile();
  for await (const p of parts) {
    if (pile.bytes.length + p.length > limit) throw new RangeError('body too long');
    pile.add(p);
  }
  return pile.take();
}

/** Writes a start line and header fields. */
export function head(start: string, headers: Iterable<[string, string]>): string {
  let s = start + '\r\n';
  for (const [k, v] of headers) s += `${k}: ${v}\r\n`;
  return s + '\r\n';
}

/** A request as it is sent. target is the path with the query, escaped. */
export interface Outgoing { method: string; target: string; host: string; headers: Headers; body?: Bytes }

/** Sends one request and returns its response. free is called when the connection can be used again. */
export async function exchange(stream: Duplex, r: Reader, q: Outgoing, free: () => void): Promise<Response> {
  q.headers.set('host', q.host);
  if (q.body || /^P(OST|UT)$/.test(q.method)) q.headers.set('content-length', String(q.body?.length ?? 0));
  const first = utf8(head(`${q.method} ${q.target} HTTP/1.1`, q.headers));
  const sent = stream.write(q.body && q.body.length < maxHead ? concat(first, q.body) : first)
    .then(() => q.body && q.body.length >= maxHead ? stream.write(q.body) : undefined);
  sent.catch(() => {}); // an answer may come although not all was read
  let h: Head | undefined, status: RegExpExecArray | null, interim = 0;
  do {
    h = await readHead(r);
    if (!h) throw cut();
    status = /^HTTP\/1\.[01] (\d{3})(?: .*)?$/.exec(h.start);
    if (!status || ++interim > maxInterim) throw new Error('not HTTP');
  } while (status[1]!.startsWith('1') && status[1] !== '101');
  const code = Number(status[1]), headers = foreignAnswer(code, h.headers, q.host);
  const keep = !/\bclose\b/i.test(h.headers.get('connection') ?? '') && !h.start.startsWith('HTTP/1.0');
  const none = q.method === 'HEAD' || code === 204 || code === 304;
  const told = framing(h), length = none ? 0 : told;
  const done = () => {
    if (keep && length !== undefined && !stream.done) void sent.then(free, () => stream.reset());
    else stream.close();
  };
  if (typeof told === 'number') headers.set('content-length', String(told));
  if (length === 0) done();
  const body = none || length === 0 ? null : pull(bodyOf(r, length), done, why => stream.reset(why));
  const zipped = body && h.headers.has('content-encoding'); // gzip, which is all that passes
  if (zipped) headers.delete('content-length');
  return new Response(zipped ? body.pipeThrough(new DecompressionStream('gzip') as TransformStream<Bytes, Bytes>) : body, { status: code, headers });
}

/** Makes a stream of a body's parts. */
function pull(parts: AsyncGenerator<Bytes, void>, done: () => void, stop: (why?: Error) => void): ReadableStream<Bytes> {
  return new ReadableStream<Bytes>({
    async pull(c) {
      try {
        const part = await parts.next();
        if (part.value) return c.enqueue(part.value);
        done();
        c.close();
      } catch (e) {
        stop(e as Error);
        c.error(e);
      }
    },
    cancel: () => stop(),
  }, { highWaterMark: 0 });
}

/** Gives the pieces of a stream. */
export async function* pieces(r: ReadableStreamDefaultReader<Bytes>): AsyncGenerator<Bytes, void> {
  try {
    for (let c; !(c = await r.read()).done;) yield c.value;
  } finally {
    void r.cancel().catch(() => {});
  }
}
