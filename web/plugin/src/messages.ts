// Custom messages, the sharer's side: requests and broadcasts at the root of a share's host, beside its database.
//
//   POST /_request/NAME   JSON -> application/json, or application/x-ndjson (of an async iterable)
//   POST /_broadcast      JSON -> 202
//   GET  /_broadcast      application/x-ndjson: {"from":PEER,"message":…} a line
import { errorAnswer, json } from './couch.js';
import { text, utf8 } from './encoding.js';
import { badRequest, CouchError, notFound } from './errors.js';
import { either } from './hub.js';
import type { RemoteInfo } from './share.js';

/**
 * Answers the requests that openers make by a name: with any JSON, or with an async iterable of any number of values.
 * from is verified; signal is aborted when the opener cancels or goes away. What it throws reaches the opener: a CouchError as it is.
 */
export type RequestHandler = (value: any, from: RemoteInfo, signal: AbortSignal) => unknown;

const maxRequest = 1 << 20, maxBroadcast = 16 << 10, maxRunning = 32; // of one peer at a time
const queueLength = 64, heartbeat = 15_000;

interface Hearer { address: string; queue: string[]; wake: () => void }

const iterable = (v: any): v is AsyncIterable<unknown> => typeof v?.[Symbol.asyncIterator] === 'function';

/** The custom messages of one share. */
export class Messages {
  readonly #hearers = new Set<Hearer>();
  readonly #running = new Map<string, number>(); // by peer

  constructor(private readonly handlers: Record<string, RequestHandler>, private readonly heard?: (m: { from: string; message: unknown }) => void) {}

  /** Answers a custom message of a peer that has been admitted; undefined: it is none. cut is aborted when it may not listen any more. */
  async answer(request: Request, from: RemoteInfo, address: string, cut: AbortSignal): Promise<Response | undefined> {
    const { pathname } = new URL(request.url), [, name] = /^\/_request\/([^/]+)$/.exec(pathname) ?? [];
    if (name === undefined && pathname !== '/_broadcast') return undefined;
    try {
      if (name !== undefined && request.method === 'POST') return await this.#request(decodeURIComponent(name), request, from, cut);
      if (name === undefined && request.method === 'POST') return await this.#broadcast(request, from, address);
      if (name === undefined && request.method === 'GET') return this.#hear(from, address, cut);
      throw new CouchError(405, 'method_not_allowed', 'Only POST allowed');
    } catch (e) {
      return errorAnswer(e);
    }
  }

  /** Counts what a peer has under way; the function returned ends that. Throws 429. */
  #begin(peer: string): () => void {
    const n = this.#running.get(peer) ?? 0;
    if (n >= maxRunning) throw new CouchError(429, 'too_many_requests', 'Too many requests are under way.');
    this.#running.set(peer, n + 1);
    let once = true;
    return () => {
      if (!once) return;
      once = false;
      const left = this.#running.get(peer)! - 1;
      if (left) this.#running.set(peer, left);
      else this.#running.delete(peer);
    };
  }

  async #request(name: string, request: Request, from: RemoteInfo, cut: AbortSignal): Promise<Response> {
    const handler = Object.hasOwn(this.handlers, name) && this.handlers[name];
    if (!handler) throw notFound('Nothing here answers such requests.');
    const value = await read(request, maxRequest), end = this.#begin(from.peer), signal = either(request.signal, cut).signal;
    try {
      const answer = await handler(value, from, signal);
      if (!iterable(answer)) {
        end();
        return json(answer ?? null);
      }
      return lines(values(answer), signal, end);
    } catch (e) {
      end();
      throw e;
    }
  }

  async #broadcast(request: Request, from: RemoteInfo, address: string): Promise<Response> {
    this.send(from.peer, await read(request, maxBroadcast), address);
    return json({ ok: true }, 202);
  }

  /** Passes a message to all who listen, but to the process that it is from. It waits for nobody. */
  send(peer: string, message: unknown, address = ''): void {
    const line = JSON.stringify({ from: peer, message });
    for (const h of this.#hearers) {
      if (h.address === address) continue;
      if (h.queue.push(line) > queueLength) h.queue.shift(); // newer presence counts for more
      h.wake();
    }
    if (address) this.heard?.({ from: peer, message });
  }

  #hear(from: RemoteInfo, address: string, cut: AbortSignal): Response {
    const end = this.#begin(from.peer), h: Hearer = { address, queue: [], wake: () => {} };
    this.#hearers.add(h);
    const each = async function* () {
      for (;;) {
        if (!h.queue.length) {
          let timer;
          await new Promise<void>(go => {
            h.wake = go;
            timer = setTimeout(go, heartbeat);
          });
          clearTimeout(timer);
        }
        yield h.queue.shift() ?? '';
      }
    };
    return lines(each(), cut, () => {
      this.#hearers.delete(h);
      h.wake();
      end();
    });
  }
}

/** Reads a JSON value. Throws 400, 413. */
async function read(request: Request, limit: number): Promise<unknown> {
  const bytes = new Uint8Array(await request.arrayBuffer());
  if (bytes.length > limit) throw new CouchError(413, 'too_large', 'The message is longer than the limit.');
  try {
    return JSON.parse(text(bytes));
  } catch {
    throw badRequest('The message is not JSON.');
  }
}

/** A stream's values as lines; a failure midway is the last one. */
async function* values(all: AsyncIterable<unknown>): AsyncGenerator<string> {
  try {
    for await (const v of all) yield JSON.stringify(v ?? null);
  } catch (e: any) {
    yield JSON.stringify({ error: e.status ? e.name : 'internal_server_error', reason: String(e.reason ?? e.message ?? e), status: e.status ?? 500 });
  }
}

/** Sends lines as they come, until they end or signal is aborted. */
function lines(each: AsyncGenerator<string>, signal: AbortSignal, end: () => void): Response {
  let over = false;
  const stop = () => {
    if (over) return;
    over = true;
    signal.removeEventListener('abort', stop);
    end();
    void each.return(undefined).catch(() => {});
  };
  const aborted = new Promise<undefined>(r => signal.addEventListener('abort', () => r(undefined)));
  signal.addEventListener('abort', stop);
  if (signal.aborted) stop();
  const body = new ReadableStream<Uint8Array>({
    async pull(c) {
      const next = over ? undefined : await Promise.race([each.next(), aborted]);
      if (next && !next.done && !over) return c.enqueue(utf8(next.value + '\n'));
      stop();
      c.close();
    },
    cancel: stop,
  }, { highWaterMark: 0 });
  return new Response(body, { headers: { 'Content-Type': 'application/x-ndjson' } });
}
