import type { Custom } from './custom.js';
import { addressOf } from './documents.js';
import type { Bytes } from './encoding.js';
import { exchange, Reader } from './http1.js';
import { either, jitter, onAbort, pause } from './hub.js';
import type { Link } from './link.js';
import type { Peer, SharedDatabase } from './peer.js';
import type { Stream } from './yamux.js';

const maxConns = 32, maxIdle = 8;
const redialMin = 100, redialMax = 5000; // ms

interface Conn { stream: Stream; reader: Reader; address: string; link: Link; release?: () => void }

/** The share is gone from the hub, or was closed here. */
export class GoneError extends Error {
  override readonly name = 'gone';
  readonly status = 503;
}

/**
 * An opened share: the sharer's database over a peer connection, by CouchDB's HTTP API.
 *
 * The connection is made by the first request and made again, to wherever the sharer is
 * then, by the next request after it broke. Requests wait for that until they are aborted
 * or the share is gone from the hub.
 */
export class Remote {
  private readonly conns = new Set<Conn>();
  private idle: Conn[] = [];
  #waiting: (() => void)[] = [];
  #opening = 0;
  readonly #over = new AbortController();
  readonly #unwatch: () => void;

  constructor(readonly peer: Peer, readonly id: string, readonly dbName: string, private readonly intro: Record<string, string>) {
    // A process from which another one has taken over may be dead without that showing yet.
    this.#unwatch = peer.directory.watch(() => {
      const s = peer.directory.get(id);
      if (s) for (const c of [...this.conns]) if (c.address !== addressOf(s)) c.stream.reset(new Error('the sharer has moved'));
    });
  }

  /** The database's URL, which means something to fetch only. */
  get url(): string {
    return `http://${this.id}/${encodeURIComponent(this.dbName)}`;
  }

  /** What the hub tells of the share now; undefined if it is gone. */
  get info(): SharedDatabase | undefined {
    return this.peer.find(this.id);
  }

  /** fetch to the sharer: CouchDB's HTTP API as it is, for any CouchDB client. The host of the URL does not matter. */
  readonly fetch = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    const from = input instanceof Request ? input : undefined;
    const url = new URL(from ? from.url : String(input), this.url + '/');
    const method = (init.method ?? from?.method ?? 'GET').toUpperCase();
    const headers = new Headers(init.headers ?? from?.headers);
    const signal = init.signal ?? from?.signal;
    let body: Bytes | undefined;
    const given = init.body ?? from?.body;
    if (given != null) {
      const r = from && init.body == null ? from : new Response(given);
      body = new Uint8Array(await r.arrayBuffer());
      const type = r.headers.get('content-type');
      if (type && !headers.has('content-type')) headers.set('content-type', type);
    }
    headers.delete('authorization'); // the hub's, if any: none of the sharer's business
    const target = url.pathname + url.search;
    for (const k in this.intro) headers.set(k, this.intro[k]!);
    const live = /\/_changes\?.*feed=[lce]|^\/_[rb]/.test(target); // feeds and custom messages come as they come
    if (!live && typeof DecompressionStream !== 'undefined') headers.set('accept-encoding', 'gzip');
    const repeatable = /^(GET|HEAD)$/.test(method) || /\/_(bulk_get|revs_diff|all_docs|changes|find|explain)$/.test(url.pathname);
    for (let again = repeatable; ; again = false) {
      const { conn, used } = await this.#connection(signal);
      const watching = onAbort(signal, () => conn.stream.reset(signal!.reason as Error));
      conn.release = () => watching.abort();
      try {
        return await exchange(conn.stream, conn.reader, { method, target, host: this.id, headers, body }, () => this.#free(conn));
      } catch (e) {
        conn.stream.reset();
        if (signal?.aborted) throw signal.reason;
        if (!again && !(used && repeatable)) throw e;
      }
    }
  };

  /** Custom messages. What they need is loaded when they are first used. */
  custom(): Promise<Custom> {
    return import('./custom.js').then(m => new m.Custom(this));
  }

  /** Returns an idle connection, or a new one as soon as one can be made. */
  async #connection(signal?: AbortSignal | null): Promise<{ conn: Conn; used: boolean }> {
    for (let wait = redialMin; ; wait = Math.min(2 * wait, redialMax)) {
      signal?.throwIfAborted();
      if (this.#over.signal.aborted) throw new GoneError('The share was closed.');
      for (const c of this.idle.filter(c => c.link.superseded)) c.stream.onEnd!(); // there is a better way now
      const idle = this.idle.pop();
      if (idle) {
        idle.stream.onEnd = () => this.#dropped(idle);
        return { conn: idle, used: true };
      }
      if (this.conns.size + this.#opening >= maxConns) {
        await this.#turn(signal);
        continue;
      }
      this.#opening++;
      try {
        return { conn: await this.#dial(signal), used: false };
      } catch (e) {
        if (e instanceof GoneError || signal?.aborted) throw e;
      } finally {
        this.#opening--;
      }
      await this.#news(jitter(wait), signal);
    }
  }

  async #dial(signal?: AbortSignal | null): Promise<Conn> {
    const s = this.peer.directory.get(this.id);
    if (!s) throw new GoneError('The share is gone from the hub.');
    const address = addressOf(s);
    const { stream, link } = await or(this.peer.transport.dial(address), signal);
    const conn = { stream, reader: new Reader(stream), address, link };
    this.conns.add(conn);
    stream.onEnd = () => this.#dropped(conn);
    return conn;
  }

  /** Waits for ms, or until the hub tells something new. */
  async #news(ms: number, signal?: AbortSignal | null): Promise<void> {
    const changed = either(signal, this.#over.signal), unwatch = this.peer.directory.watch(() => changed.abort());
    if (!await pause(ms, changed.signal)) await pause(redialMin, signal ?? undefined);
    unwatch();
    changed.abort();
  }

  /** Waits until a connection is free. */
  #turn(signal?: AbortSignal | null): Promise<void> {
    return or(new Promise<void>(r => this.#waiting.push(r)), signal);
  }

  #next(): void {
    for (const go of this.#waiting.splice(0)) go(); // all: who was first may have been aborted
  }

  /** A connection can be used again. */
  #free(c: Conn): void {
    c.release?.();
    if (this.#over.signal.aborted || this.idle.length >= maxIdle || c.stream.done || c.link.superseded) {
      c.stream.close();
      return this.#dropped(c);
    }
    c.stream.onEnd = () => {
      this.idle = this.idle.filter(i => i !== c);
      c.stream.close();
      this.#dropped(c);
    };
    this.idle.push(c);
    this.#next();
  }

  #dropped(c: Conn): void {
    c.release?.();
    if (this.conns.delete(c)) this.#next();
  }

  /** Ends requests under way and lets go of the share. The peer connection stays. */
  close(): void {
    this.#over.abort();
    this.#unwatch();
    for (const c of [...this.conns]) c.stream.reset(new GoneError('The share was closed.'));
    for (const go of this.#waiting.splice(0)) go();
    this.idle = [];
  }
}

/** p, unless signal is aborted before. */
function or<T>(p: Promise<T>, signal?: AbortSignal | null): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const watching = onAbort(signal, () => reject(signal!.reason));
    p.then(resolve, reject).finally(() => watching.abort());
  });
}
