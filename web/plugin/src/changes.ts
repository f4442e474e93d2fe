import { type Call, natural } from './couch.js';
import { badRequest, forbidden } from './errors.js';
import { type ChangesOptions, defined, type View } from './filter.js';
import { either } from './hub.js';
import { compile, Work } from './selector.js';
import { bodyOf, listed, streamed } from './streamed.js';

const part = 32 << 10; // characters that are sent at once
const defaultTimeout = 60_000; // ms
const maxQuery = 8 << 20;

/** What a changes feed tells. */
async function selection(c: Call): Promise<ChangesOptions> {
  const q = c.query, on = (name: string) => q.get(name) === 'true';
  const body = c.method === 'POST' ? await c.body(maxQuery) : {};
  const filter = q.get('filter');
  if ((filter && filter !== '_doc_ids' && filter !== '_selector') || q.get('view')) throw forbidden('A share runs no filter functions.');
  return defined({
    style: q.get('style') ?? undefined, include_docs: on('include_docs'), conflicts: on('conflicts'), attachments: on('attachments'),
    descending: on('descending'), ids: filter === '_doc_ids' ? docIDs(body?.doc_ids, q.get('doc_ids')) : undefined,
    match: filter === '_selector' ? compile(body?.selector) : undefined,
  });
}

function docIDs(body: unknown, query: string | null): Set<unknown> {
  let ids = body;
  try {
    ids ??= JSON.parse(query ?? '');
  } catch { /* not a list */ }
  if (!Array.isArray(ids)) throw badRequest('`doc_ids` parameter must be a list.');
  return new Set(ids);
}

/** Answers GET or POST /{db}/_changes: feeds normal, longpoll and continuous. */
export async function changesFeed(view: View, c: Call): Promise<Response> {
  const q = c.query, feed = q.get('feed') ?? 'normal', o = await selection(c);
  let since: unknown = q.get('since') ?? q.get('last-event-id') ?? 0;
  if (since === 'now') since = (await view.info()).update_seq;
  if (typeof since === 'string' && /^\d+$/.test(since)) since = Number(since);
  let limit = natural(q, 'limit');
  if (feed === 'normal') {
    const rows = async function* () {
      since = yield* view.changes({ ...o, since, limit }, new Work());
    };
    const answer = async function* () {
      yield* listed('{"results":[\n', rows(), '\n],\n');
      yield `"last_seq":${JSON.stringify(since)},"pending":0}\n`;
    };
    return streamed(answer());
  }
  if (feed !== 'longpoll' && feed !== 'continuous') throw badRequest(`unknown feed ${feed}`);

  const heartbeat = natural(q, 'heartbeat') ?? (q.get('heartbeat') === 'true' ? defaultTimeout : undefined);
  const till = Date.now() + (heartbeat ? Infinity : Math.min(natural(q, 'timeout') ?? defaultTimeout, defaultTimeout));
  const stop = new AbortController(), end = () => stop.abort(), long = feed === 'longpoll';
  c.signal.addEventListener('abort', end);
  if (c.signal.aborted) end();

  /** Gives the answer's pieces as they come. */
  async function* pieces(): AsyncGenerator<string, void> {
    if (long) yield '{"results":[\n';
    let told = Date.now();
    for (let any = false; !stop.signal.aborted;) {
      const rows = view.changes({ ...o, descending: false, since, ...defined({ limit }) }, new Work());
      let buf = '', sent = false, next;
      while (!(next = await rows.next()).done && !stop.signal.aborted) {
        const row = JSON.stringify(next.value);
        buf += long ? (any ? ',\n' : '') + row : row + '\n';
        any = sent = true;
        if (limit !== undefined) limit--;
        if (buf.length < part) continue;
        yield buf;
        buf = '';
      }
      if (next.done) since = next.value;
      if (buf) yield buf;
      if (sent) told = Date.now();
      if (limit !== undefined && limit <= 0 || long && any || Date.now() >= till) break;
      const wait = Math.min((heartbeat ?? Infinity) - (Date.now() - told), till - Date.now());
      await woken(view, since, Math.max(wait, 0), stop.signal);
      if (!heartbeat || Date.now() - told < heartbeat) continue; // what woke us may be hidden
      yield '\n';
      told = Date.now();
    }
    yield long ? `\n],\n"last_seq":${JSON.stringify(since)},"pending":0}\n` : `{"last_seq":${JSON.stringify(since)},"pending":0}\n`;
  }
  return new Response(bodyOf(pieces(), () => {
    c.signal.removeEventListener('abort', end);
    end();
  }), { headers: { 'Content-Type': 'application/json' } });
}

/** Resolves when the database has changed since, or ms have passed. */
async function woken(view: View, since: unknown, ms: number, signal: AbortSignal): Promise<void> {
  const over = either(signal), timer = setTimeout(() => over.abort(), Math.min(ms, 0x7fffffff));
  await view.changed(since, over.signal);
  clearTimeout(timer);
  over.abort();
}
