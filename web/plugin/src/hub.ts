import type { Doc } from './documents.js';
import { randomHex, toBase64, utf8 } from './encoding.js';
import { CouchError } from './errors.js';
import type { Identity } from './identity.js';

/** fetch below a hub database: path is relative to its URL, and "" the database itself. */
export type HubFetch = (path: string, init?: RequestInit) => Promise<Response>;

/** What became of one document that was written. */
export interface Written { id: string; rev?: string; error?: string; reason?: string }

/** A row of the changes feed. */
export interface Change { seq: unknown; id: string; deleted?: boolean; doc?: Doc }

const heartbeat = 10_000;

/** What the holder of a device key wants of a hub. */
export type Purpose = 'read' | 'claim' | 'relay';

/** The request header by which a peer shows a Loveseat hub that it has its device key. */
export const proofHeader = 'Loveseat-Peer';

/** The hub database over CouchDB's HTTP API. */
export class Hub {
  /** Makes the header by which a hub knows this peer, for one request. Go's hubdoc.Proof describes it. */
  prove?: (method: string, purpose: Purpose) => Promise<string>;
  #loveseat = false;
  #ice?: Promise<RTCIceServer[]>;
  #iceTill = Infinity;

  /** url is the database's, as this page reaches it; without one no proofs are made. */
  constructor(private readonly fetch: HubFetch, private readonly url?: string) {}

  async #send(path: string, init?: RequestInit, purpose: Purpose = 'read'): Promise<Response> {
    if (this.prove && !path.startsWith('.')) {
      const headers = new Headers(init?.headers);
      if (!headers.has(proofHeader)) headers.set(proofHeader, await this.prove(init?.method ?? 'GET', purpose));
      init = { ...init, headers };
    }
    const r = await this.fetch(path, init);
    if (r.ok) return r;
    const e = await r.json().catch(() => ({})) as { error?: string; reason?: string };
    throw new CouchError(r.status, e.error ?? 'unknown_error', e.reason ?? r.statusText);
  }

  /** Makes a request whose answer is JSON: GET, or POST with a body. Throws a CouchError. */
  async json<T>(path: string, body?: unknown, init: RequestInit = {}, purpose?: Purpose): Promise<T> {
    const headers = new Headers(init.headers);
    headers.set('Accept', 'application/json');
    if (body !== undefined) {
      headers.set('Content-Type', 'application/json');
      init = { ...init, method: 'POST', body: JSON.stringify(body) };
    }
    return await (await this.#send(path, { ...init, headers }, purpose)).json() as T;
  }

  /** From now on shows a Loveseat hub whose requests these are, so that it takes what the peer signs and gives out the peer's signals. */
  async identify(id: Identity): Promise<void> {
    const welcome = await this.json<{ vendor?: { name?: string } }>('../').catch(() => undefined);
    this.#loveseat = welcome?.vendor?.name === 'Loveseat';
    if (!this.#loveseat || !this.url) return; // other servers need not allow the header to pages
    const { origin, pathname } = new URL(this.url), database = decodeURIComponent(pathname.split('/').pop()!);
    this.prove = async (method, purpose) => {
      const now = Date.now(), nonce = randomHex(16);
      const signature = await id.sign(utf8(['loveseat proof v2', origin, database, method, purpose, now, nonce].join('\n')));
      return `v2 ${id.keys.sign} ${now} ${nonce} ${purpose} ${origin} ${toBase64(signature)}`;
    };
  }

  /** Returns the STUN and TURN servers that a Loveseat hub names, whose credentials end; none of other hubs. */
  iceServers(): Promise<RTCIceServer[]> {
    if (!this.#loveseat) return Promise.resolve([]);
    if (Date.now() > this.#iceTill) this.#ice = undefined;
    return this.#ice ??= this.json<{ iceServers: RTCIceServer[]; ttl: number }>('../_ice').then(a => {
      this.#iceTill = Date.now() + a.ttl * 500; // half their time
      return a.iceServers;
    }, () => {
      this.#ice = undefined;
      return []; // peers may reach each other without
    });
  }

  /** Returns the database's update sequence. */
  async sequence(): Promise<string> {
    return String((await this.json<{ update_seq: unknown }>('')).update_seq);
  }

  /** Returns a document, undefined if there is none. */
  async get(id: string): Promise<Doc | undefined> {
    try {
      return await this.json<Doc>(encodeURIComponent(id));
    } catch (e) {
      if (e instanceof CouchError && e.status === 404) return undefined;
      throw e;
    }
  }

  /** Returns the documents whose ids begin with prefix. */
  async list(prefix: string): Promise<Doc[]> {
    const q = new URLSearchParams({
      include_docs: 'true', startkey: JSON.stringify(prefix), endkey: JSON.stringify(prefix + '\ufff0'),
    });
    const { rows } = await this.json<{ rows: { doc?: Doc }[] }>(`_all_docs?${q}`);
    return rows.flatMap(r => r.doc?._id.startsWith(prefix) ? [r.doc] : []);
  }

  /** Writes documents, or deletes them. proof: the page is going away, and has this one ready. */
  write(docs: Doc[], proof?: string): Promise<Written[]> {
    return this.json('_bulk_docs', { docs }, proof === undefined ? {} : { keepalive: true, headers: proof ? { [proofHeader]: proof } : undefined }, 'claim');
  }

  /** Writes one document and returns its new revision. Throws a CouchError. */
  async put(doc: Doc): Promise<string> {
    const [w] = await this.write([doc]);
    if (w?.rev && !w.error) return w.rev;
    throw new CouchError(w?.error === 'conflict' ? 409 : 403, w?.error ?? 'unknown_error', w?.reason ?? '');
  }

  /**
   * Returns the changes since a sequence, waiting for the next one if there are none. It
   * fails when not even heartbeats come any more, and when signal is aborted.
   */
  async changes(since: string, signal: AbortSignal): Promise<{ rows: Change[]; last: string }> {
    const q = new URLSearchParams({ feed: 'longpoll', include_docs: 'true', heartbeat: String(heartbeat), since });
    const silence = either(signal);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(new Error("the hub's changes feed fell silent")), 3 * heartbeat);
    };
    try {
      alive();
      const r = await this.#send(`_changes?${q}`, { signal: silence.signal, headers: new Headers({ Accept: 'application/json' }) });
      const reader = r.body!.pipeThrough(new TextDecoderStream()).getReader();
      let json = '';
      for (let c; !(c = await reader.read()).done; json += c.value) alive();
      const { results, last_seq } = JSON.parse(json) as { results: Change[]; last_seq: unknown };
      return { rows: results, last: String(last_seq) };
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }
}

/** What is aborted with any of the signals. Abort it when it has served: then it has let go of them. */
export function either(...signals: (AbortSignal | null | undefined)[]): AbortController {
  const c = new AbortController();
  for (const s of signals) onAbort(s, () => c.abort(s!.reason), c);
  return c;
}

/** Calls fn when a signal is aborted, at once if it has been, until what it returns is aborted. */
export function onAbort(s: AbortSignal | null | undefined, fn: () => void, until = new AbortController()): AbortController {
  s?.addEventListener('abort', fn, { signal: until.signal });
  if (s?.aborted) fn();
  return until;
}

/** d milliseconds give or take a quarter, so that many peers do not act as one. */
export const jitter = (d: number): number => d * (0.75 + Math.random() / 2);

/** Waits; false: signal was aborted. */
export function pause(ms: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise(resolve => {
    if (signal?.aborted) return resolve(false);
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve(!signal?.aborted);
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end);
  });
}

/** Calls fn until it succeeds, fails for good, or signal is aborted. */
export async function retry<T>(signal: AbortSignal, fn: () => Promise<T>): Promise<T> {
  for (let wait = 100; ; wait = Math.min(2 * wait, 5000)) {
    try {
      return await fn();
    } catch (e) {
      if (e instanceof CouchError && e.permanent || !await pause(jitter(wait), signal)) throw e;
    }
  }
}
