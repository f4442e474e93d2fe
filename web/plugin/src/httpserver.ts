// The server's side of HTTP/1.1.
import { type Bytes, concat, utf8 } from './encoding.js';
import { bodyOf, type Duplex, framing, head, pieces, readAll, Reader, readHead } from './http1.js';

/** Answers one request. The request's signal is aborted when the client goes away. */
export type Handler = (request: Request) => Promise<Response>;

const compressFrom = 1 << 10;

/** The longest body that a request to a page may have, and what all that are under way may have together, in bytes. */
export const maxBody = 64 << 20, maxBodies = 256 << 20;
const freely = 1 << 20, maxRatio = 100; // so much a packed body may unpack to in any case, and so many times its length
const maxAtOnce = 16; // requests of a link whose bodies and answers are in memory

/** What the requests of one link hold in memory. */
export class Held {
  static #all = 0;
  static readonly #holders = new Set<Held>();
  #bytes = 0;
  #running = 0;
  #waiting: (() => void)[] = [];

  /** Counts bytes; a negative number gives them back. Throws a RangeError if they are too many: those of this link, or of a link that has more than its part of all. */
  take(n: number): void {
    this.#bytes += n;
    Held.#all += n;
    if (this.#bytes > 0) Held.#holders.add(this);
    else Held.#holders.delete(this);
    if (n > 0 && (this.#bytes > maxBody + freely || Held.#all > maxBodies && this.#bytes > maxBodies / Held.#holders.size)) {
      this.take(-n);
      throw new RangeError('too many bytes at once');
    }
  }

  /** Waits until one of the link's requests may go on. */
  async enter(): Promise<void> {
    if (this.#running < maxAtOnce) this.#running++;
    else await new Promise<void>(go => this.#waiting.push(go)); // whoever leaves hands over the place
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#running--;
  }
}

/** What one request holds, until it leaves. */
class Place {
  #bytes = 0;
  #in = false;

  constructor(private readonly held: Held) {}

  async enter(): Promise<void> {
    await this.held.enter();
    this.#in = true;
  }

  take(bytes: number): void {
    this.held.take(bytes);
    this.#bytes += bytes;
  }

  leave(): void {
    this.held.take(-this.#bytes);
    this.#bytes = 0;
    if (this.#in) this.held.leave();
    this.#in = false;
  }
}

/**
 * Serves the requests of one connection, one after the other, until it ends. route finds the handler of a Host. Requests at
 * the root of a host wait for people and take no place among those that are answered at once.
 */
export async function serve(stream: Duplex, route: (host: string) => Handler, held = new Held()): Promise<void> {
  const r = new Reader(stream), gone = new AbortController();
  stream.onEnd = () => gone.abort(new Error('the client went away'));
  try {
    while (await serveOne(stream, r, route, gone.signal, held));
    stream.close();
  } catch (e) {
    stream.reset(e as Error);
  }
}

async function serveOne(stream: Duplex, r: Reader, route: (host: string) => Handler, signal: AbortSignal, held: Held): Promise<boolean> {
  const h = await readHead(r);
  if (!h) return false;
  const [method, target, version, more] = h.start.split(' ');
  if (more !== undefined || !target?.startsWith('/') || (version !== 'HTTP/1.1' && version !== 'HTTP/1.0')) throw new Error('malformed request');
  const length = framing(h) ?? 0, host = h.headers.get('host') ?? '', place = new Place(held);
  let response: Response, keep = version === 'HTTP/1.1' && !/\bclose\b/i.test(h.headers.get('connection') ?? '');
  if (!target.startsWith('/_')) await place.enter();
  try {
    try {
      if (h.headers.get('expect')) await stream.write(utf8('HTTP/1.1 100 Continue\r\n\r\n'));
      const body = await unzip(await readAll(counted(bodyOf(r, length), place), maxBody), h.headers, place);
      const init = { method, headers: h.headers, signal, body: method === 'GET' || method === 'HEAD' ? undefined : body };
      response = await route(host)(new Request(`http://${/^[\w.-]+$/.test(host) ? host : 'share'}${target}`, init));
    } catch (e) {
      if (signal.aborted) throw e;
      const tooLong = e instanceof RangeError;
      keep = false; // where the next request begins is not known
      const error = tooLong ? { error: 'too_large', reason: e.message } : { error: 'bad_request', reason: String(e) };
      response = new Response(JSON.stringify(error), { status: tooLong ? 413 : 400, headers: { 'Content-Type': 'application/json' } });
    }
    if (response.headers.get('connection') === 'close') keep = false;
    if (!response.headers.has('content-length') || !isJSON(response.headers)) place.leave(); // it is made, or read, while it is sent
    await answer(stream, response, method === 'HEAD', /\bgzip\b/.test(h.headers.get('accept-encoding') ?? ''), keep);
    return keep;
  } finally {
    place.leave();
  }
}

const isJSON = (h: Headers): boolean => !!h.get('content-type')?.startsWith('application/json');

/** Counts the bytes of a body while it is being read. */
async function* counted(parts: AsyncIterable<Bytes>, place: Place): AsyncGenerator<Bytes, void> {
  for await (const p of parts) {
    place.take(p.length);
    yield p;
  }
}

async function unzip(body: Bytes, headers: Headers, place: Place): Promise<Bytes> {
  const coding = headers.get('content-encoding');
  if (!coding || coding === 'identity') return body;
  if (coding !== 'gzip') throw new Error(`unknown content encoding ${coding}`);
  const plain = new Blob([body]).stream().pipeThrough(new DecompressionStream('gzip'));
  return readAll(counted(pieces(plain.getReader() as ReadableStreamDefaultReader<Bytes>), place), Math.min(Math.max(maxRatio * body.length, freely), maxBody));
}

/** Sends a response. One of unknown length goes in chunks; long JSON is compressed if the client takes that. */
async function answer(stream: Duplex, response: Response, headOnly: boolean, gzip: boolean, keep: boolean): Promise<void> {
  const headers = new Headers(response.headers);
  let body = headOnly ? null : response.body as ReadableStream<Bytes> | null;
  const length = Number(headers.get('content-length') ?? NaN);
  if (body && gzip && length > compressFrom && isJSON(headers)) {
    body = body.pipeThrough(new CompressionStream('gzip') as TransformStream<Bytes, Bytes>);
    headers.set('content-encoding', 'gzip');
    headers.delete('content-length');
  }
  const chunked = body && !headers.has('content-length');
  if (chunked) headers.set('transfer-encoding', 'chunked');
  else if (!body && !headOnly && response.status !== 204 && response.status !== 304) headers.set('content-length', '0');
  if (!keep) headers.set('connection', 'close');
  await stream.write(utf8(head(`HTTP/1.1 ${response.status} ${response.statusText}`, headers)));
  if (!body) return;
  for await (const part of pieces(body.getReader())) {
    if (!part.length) continue;
    await stream.write(chunked ? concat(utf8(part.length.toString(16) + '\r\n'), part, utf8('\r\n')) : part);
  }
  if (chunked) await stream.write(utf8('0\r\n\r\n'));
}
