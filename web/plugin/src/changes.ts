import { type Call, defined, json } from './couch.js';
import { utf8 } from './encoding.js';
import { badRequest, forbidden } from './errors.js';
import type { Pouch } from './pouch.js';

const batch = 500;
const defaultTimeout = 60_000; // ms

/** What a changes feed tells, as PouchDB's options. */
async function selection(c: Call): Promise<Record<string, unknown>> {
  const q = c.query, on = (name: string) => q.get(name) === 'true';
  const body = c.method === 'POST' ? await c.body() : {};
  const filter = q.get('filter');
  if ((filter && filter !== '_doc_ids' && filter !== '_selector') || q.get('view')) throw forbidden('A share runs no filter functions.');
  const ids = q.get('doc_ids');
  return defined({
    style: q.get('style') ?? undefined, include_docs: on('include_docs'), conflicts: on('conflicts'), attachments: on('attachments'),
    descending: on('descending'), doc_ids: filter === '_doc_ids' ? body.doc_ids ?? (ids && JSON.parse(ids)) : undefined,
    selector: filter === '_selector' ? body.selector : undefined,
  });
}

const number = (q: URLSearchParams, name: string): number | undefined => {
  const v = q.get(name);
  if (v !== null && !/^\d+$/.test(v)) throw badRequest(`invalid ${name}`);
  return v === null ? undefined : Number(v);
};

/** Resolves when the database has changed since, or ms have passed. */
function change(db: Pouch, since: unknown, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const feed = db.changes({ since, live: true, return_docs: false });
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      feed.cancel();
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
    feed.catch(() => {});
    feed.on('change', end).on('error', end);
  });
}

/** Answers GET or POST /{db}/_changes: feeds normal, longpoll and continuous. */
export async function changesFeed(db: Pouch, c: Call): Promise<Response> {
  const q = c.query, feed = q.get('feed') ?? 'normal', o = await selection(c);
  let since: unknown = q.get('since') ?? q.get('last-event-id') ?? 0;
  if (since === 'now') since = (await db.info()).update_seq;
  if (typeof since === 'string' && /^\d+$/.test(since)) since = Number(since);
  let limit = number(q, 'limit');
  const read = (max?: number) => db.changes({ ...o, since, ...defined({ limit: max }) });
  if (feed === 'normal') {
    const { results, last_seq, pending } = await read(limit);
    return json({ results, last_seq, pending: pending ?? 0 });
  }
  if (feed !== 'longpoll' && feed !== 'continuous') throw badRequest(`unknown feed ${feed}`);

  const heartbeat = number(q, 'heartbeat') ?? (q.get('heartbeat') === 'true' ? defaultTimeout : undefined);
  const till = Date.now() + (heartbeat ? Infinity : Math.min(number(q, 'timeout') ?? defaultTimeout, defaultTimeout));
  const stop = new AbortController(), end = () => stop.abort();
  c.signal.addEventListener('abort', end);
  if (c.signal.aborted) end();

  /** Gives the answer's pieces as they come. */
  async function* pieces(): AsyncGenerator<string, void> {
    if (feed === 'longpoll') yield '{"results":[\n';
    for (; !stop.signal.aborted;) {
      const { results, last_seq } = await read(Math.min(limit ?? batch, batch));
      const rows = results.map(r => JSON.stringify(r));
      if (rows.length) yield feed === 'longpoll' ? rows.join(',\n') + '\n' : rows.join('\n') + '\n';
      since = last_seq;
      if (limit !== undefined) limit -= rows.length;
      if (limit === 0 || (feed === 'longpoll' && rows.length) || Date.now() >= till) break;
      if (rows.length) continue;
      await change(db, since, Math.min(heartbeat ?? Infinity, till - Date.now(), 0x7fffffff), stop.signal);
      if (heartbeat) yield '\n';
    }
    yield feed === 'longpoll' ? `],\n"last_seq":${JSON.stringify(since)},"pending":0}\n` : `{"last_seq":${JSON.stringify(since)},"pending":0}\n`;
  }

  const parts = pieces();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const part = await parts.next();
      if (part.value) return controller.enqueue(utf8(part.value));
      c.signal.removeEventListener('abort', end);
      controller.close();
    },
    cancel: end,
  }, { highWaterMark: 0 });
  return new Response(body, { headers: { 'Content-Type': 'application/json' } });
}
