// Custom messages, the opener's side, which is loaded when it is used. The wire is described in messages.ts.
import { verificationCode } from './code.js';
import { CouchError } from './errors.js';
import { either, jitter, pause } from './hub.js';
import type { Remote } from './remote.js';

const silence = 45_000; // ms: three heartbeats

/** Makes a request at the root of the share's host. Throws the sharer's CouchError. */
async function message(r: Remote, path: string, init: RequestInit): Promise<Response> {
  const a = await r.fetch(path, init);
  if (a.ok) return a;
  const e = await a.json().catch(() => ({})) as { error?: string; reason?: string };
  throw new CouchError(a.status, e.error ?? 'unknown_error', e.reason ?? a.statusText);
}

const post = (value: unknown, signal?: AbortSignal): RequestInit => ({
  method: 'POST', body: JSON.stringify(value ?? null), headers: { 'Content-Type': 'application/json' }, signal,
});

const isStream = (a: Response): boolean => !!a.headers.get('content-type')?.startsWith('application/x-ndjson');

const failed = (v: any): boolean => typeof v?.error === 'string' && typeof v.reason === 'string' && Object.keys(v).every(k => /^(error|reason|status)$/.test(k));
const failure = (v: any) => new CouchError(v.status ?? 500, v.error, v.reason);

/** Custom messages to the sharer of an opened share, and to others who have it open. */
export class Custom {
  constructor(private readonly remote: Remote) {}

  /** The number that both people see, if nobody is between them: see verificationCode. Undefined if the share is gone. */
  async verificationCode(): Promise<string | undefined> {
    const { info } = this.remote;
    return info && verificationCode(info.peer, this.remote.peer.id);
  }

  #ask(name: string, value: unknown, signal?: AbortSignal): Promise<Response> {
    return message(this.remote, '/_request/' + encodeURIComponent(name), post(value, signal));
  }

  /** Asks the sharer for what its handler of that name answers to a value. Throws a CouchError: 404 if it has none. */
  async request(name: string, value?: unknown, signal?: AbortSignal): Promise<any> {
    const a = await this.#ask(name, value, signal);
    if (!isStream(a)) return a.json();
    await a.body?.cancel();
    throw new Error(`${name} answers with a stream`);
  }

  /** request for a handler that answers with any number of values. Leaving the loop cancels it. */
  async *stream(name: string, value?: unknown, signal?: AbortSignal): AsyncGenerator<any, void> {
    const a = await this.#ask(name, value, signal);
    if (!isStream(a)) return yield await a.json();
    let last: any, any = false; // only the last line can tell of a failure
    for await (const line of linesOf(a)) {
      if (!line) continue;
      if (any && failed(last)) yield last;
      [last, any] = [JSON.parse(line), true];
      if (!failed(last)) yield last;
    }
    if (any && failed(last)) throw failure(last);
  }

  /** Sends a value of at most 16 KiB of JSON to the sharer and to all others who have the share open and listen. It is kept nowhere. */
  async broadcast(value: unknown): Promise<void> {
    await (await message(this.remote, '/_broadcast', post(value))).body?.cancel();
  }

  /**
   * Yields what the sharer and others broadcast from now on, until signal is aborted. It connects again when the
   * connection is lost. Throws when the sharer refuses or the share is gone.
   */
  async *messages(signal?: AbortSignal): AsyncGenerator<{ from: string; message: any }, void> {
    for (let wait = 100; !signal?.aborted; wait = Math.min(2 * wait, 5000)) {
      try {
        for await (const m of this.#hear(signal)) {
          wait = 100;
          yield m;
        }
      } catch (e: any) {
        if (signal?.aborted) return;
        if (e.name === 'gone' || e instanceof CouchError && e.permanent) throw e;
      }
      await pause(jitter(wait), signal);
    }
  }

  /** Listens on one connection. */
  async *#hear(signal?: AbortSignal): AsyncGenerator<{ from: string; message: any }, void> {
    const one = either(signal);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => one.abort(new Error('the sharer is silent')), silence);
    };
    try {
      alive();
      for await (const line of linesOf(await message(this.remote, '/_broadcast', { signal: one.signal }))) {
        alive();
        if (!line) continue;
        const m = JSON.parse(line);
        if (failed(m)) throw failure(m);
        clearTimeout(timer); // the loop may take its time
        yield m;
        alive();
      }
    } finally {
      clearTimeout(timer);
      one.abort();
    }
  }
}

/** The lines of an answer as they come. */
async function* linesOf(a: Response): AsyncGenerator<string, void> {
  const reader = a.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (let c; !(c = await reader.read()).done;) {
      const parts = (rest + c.value).split('\n');
      rest = parts.pop()!;
      if (rest.length > 16 << 20) throw new CouchError(413, 'too_large', 'The answer is longer than the limit.');
      yield* parts;
    }
    if (rest) yield rest;
  } finally {
    void reader.cancel().catch(() => {});
  }
}
