// CouchDB's HTTP API over a PouchDB: (Request) => Response, for one database, one client and what it
// may do. There is no route that destroys, compacts or purges, writes design documents or security, or runs code of a peer.
import { safeType } from './answer.js';
import { changesFeed } from './changes.js';
import type { Doc } from './documents.js';
import { type Bytes, concat, utf8 } from './encoding.js';
import type { Handler } from './httpserver.js';
import { badRequest, CouchError, forbidden, notFound } from './errors.js';
import { View } from './filter.js';
import { find, readQuery } from './find.js';
import { readJSON } from './json.js';
import { Locals } from './locals.js';
import type { Pouch } from './pouch.js';
import { listed, streamed } from './streamed.js';

/** How a database is served to one peer. */
export interface ServeOptions {
  /** The database's name in URLs. */
  name: string;
  /** Identifies the server: replications go on from their checkpoints as long as it is the same. */
  uuid: string;
  readOnly: boolean;
  /** Whose _local documents these are: every peer has its own. */
  peer: string;
  /** What of the database the peer sees. Default: all. */
  view?: View;
  /** Asked about each document that the peer writes; what it throws refuses it. */
  onWrite?: (doc: Doc) => unknown;
  /** Is told of a write that was refused. */
  onRefused?: (id: string, e: Error) => void;
}

const maxQuery = 8 << 20; // bytes of a body that asks for something
const bulkGetBatch = 10;

/** A JSON answer. */
export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  const body = utf8(JSON.stringify(value) + '\n');
  return new Response(body, { status, headers: { 'Content-Type': 'application/json', 'Content-Length': String(body.length), ...headers } });
}

/** The answer that tells an error, PouchDB's or ours. */
export function errorAnswer(e: any): Response {
  const status = Number.isInteger(e?.status) && e.status >= 400 && e.status < 600 ? e.status : 500;
  const known = status !== 500 || e instanceof CouchError;
  return json({ error: known ? String(e.name) : 'internal_server_error', reason: String(e?.reason ?? e?.message ?? e) }, status);
}

/** One request, taken apart. */
export interface Call { method: string; query: URLSearchParams; request: Request; signal: AbortSignal; body(limit?: number): Promise<any>; bytes(): Promise<Bytes> }

/** Makes the handler of a database's API. */
export function couchHandler(db: Pouch, o: ServeOptions): Handler {
  const api = new API(db, o);
  return async request => {
    try {
      return await api.answer(request);
    } catch (e) {
      return errorAnswer(e);
    }
  };
}

const flag = (q: URLSearchParams, name: string) => q.get(name) === 'true';

/** Reads a number of the query. */
export function natural(q: URLSearchParams, name: string): number | undefined {
  const v = q.get(name);
  if (v === null) return undefined;
  if (!/^\d{1,15}$/.test(v)) throw new CouchError(400, 'query_parse_error', `Invalid value for ${name}.`);
  return Number(v);
}

/** The index that all databases have. Others are the owner's. */
const allDocsIndex = { ddoc: null, name: '_all_docs', type: 'special', def: { fields: [{ _id: 'asc' }] } };

/** Reads a JSON value of the query. */
function value(q: URLSearchParams, ...names: string[]): any {
  for (const n of names) {
    const v = q.get(n);
    if (v === null) continue;
    try {
      return JSON.parse(v);
    } catch {
      throw new CouchError(400, 'query_parse_error', `Invalid value for ${n}.`);
    }
  }
  return undefined;
}

function unescape(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw badRequest('malformed path');
  }
}

class API {
  readonly #locals: Locals;
  readonly db: View;

  constructor(db: Pouch, private readonly o: ServeOptions) {
    this.db = o.view ?? new View(db);
    this.#locals = Locals.of(db);
  }

  async answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const path = url.pathname.slice(1).split('/').map(unescape);
    const method = request.method === 'HEAD' ? 'GET' : request.method;
    const bytes = async () => new Uint8Array(await request.arrayBuffer());
    const body = async (limit = Infinity) => {
      const all = await bytes();
      if (all.length > limit) throw new CouchError(413, 'too_large', 'the request entity is too large');
      return readJSON(all);
    };
    return this.#route(path, { method, query: url.searchParams, request, signal: request.signal, body, bytes });
  }

  async #route([name, ...rest]: string[], c: Call): Promise<Response> {
    if (!rest.length && c.method === 'GET') {
      if (name === '' || name === '_up') return json({ couchdb: 'Welcome', vendor: { name: 'Loveseat' }, version: '3.4.0', uuid: this.o.uuid, features: [], status: 'ok' });
      if (name === '_all_dbs') return json([this.o.name]);
      if (name === '_uuids') return json({ uuids: [crypto.randomUUID().replaceAll('-', '')] });
    }
    if (name !== this.o.name) throw notFound('Database does not exist.');
    const [first = '', ...more] = rest;
    if (rest.length && first.startsWith('_') && !/^_(design|local)(\/|$)/.test(first)) return this.#special(rest.join('/'), c);
    if (!first && rest.length < 2) return this.#database(c);
    if (/^_(design|local)$/.test(first)) {
      if (!more[0]) throw notFound('missing');
      return this.#document(`${first}/${more[0]}`, more.slice(1).join('/'), c);
    }
    return this.#document(first, more.join('/'), c);
  }

  async #database(c: Call): Promise<Response> {
    if (c.method === 'POST') {
      const doc = await c.body();
      await this.#allow(doc?._id ?? '', doc);
      const { id, rev } = await this.db.put({ ...doc, _id: doc._id ?? crypto.randomUUID() });
      return json({ ok: true, id, rev }, 201);
    }
    if (c.method !== 'GET') throw forbidden('A share is for reading and replicating documents.');
    const i = await this.db.info();
    return json({
      db_name: this.o.name, uuid: this.o.uuid, doc_count: i.doc_count, doc_del_count: 0, update_seq: i.update_seq,
      purge_seq: 0, compact_running: false, sizes: {}, instance_start_time: '0',
    });
  }

  async #special(path: string, c: Call): Promise<Response> {
    const q = c.query;
    switch (`${c.method} ${path}`) {
      case 'GET _all_docs':
        return this.#allDocs(q, {});
      case 'POST _all_docs':
        return this.#allDocs(q, await c.body(maxQuery));
      case 'GET _changes':
      case 'POST _changes':
        return changesFeed(this.db, c);
      case 'POST _bulk_get':
        return this.#bulkGet(q, await c.body(maxQuery));
      case 'POST _revs_diff':
        return json(await this.db.revsDiff(await c.body(maxQuery)));
      case 'POST _bulk_docs':
        return this.#bulkDocs(await c.body());
      case 'POST _ensure_full_commit':
        return json({ ok: true, instance_start_time: '0' }, 201);
      case 'POST _find':
        return find(this.db, readQuery(await c.body(maxQuery)));
      case 'POST _explain': {
        const { selector, fields, limit, skip } = readQuery(await c.body(maxQuery));
        return json({ dbname: this.o.name, index: allDocsIndex, selector, limit, skip, fields: fields ?? 'all_fields' });
      }
      case 'GET _index':
        return json({ total_rows: 1, indexes: [allDocsIndex] });
      case 'GET _revs_limit':
        return json(1000);
    }
    throw forbidden('A share is for reading and replicating documents.');
  }

  async #allDocs(q: URLSearchParams, body: any): Promise<Response> {
    const key = value(q, 'key'), keys = body?.keys ?? value(q, 'keys') ?? (key === undefined ? undefined : [key]);
    if (keys !== undefined && !Array.isArray(keys)) throw badRequest('`keys` parameter must be an array.');
    const o = {
      keys, startkey: value(q, 'startkey', 'start_key'), endkey: value(q, 'endkey', 'end_key'), inclusive_end: q.get('inclusive_end') !== 'false',
      descending: flag(q, 'descending'), limit: natural(q, 'limit'), skip: natural(q, 'skip'), include_docs: flag(q, 'include_docs'),
      conflicts: flag(q, 'conflicts'), attachments: flag(q, 'attachments'),
    };
    const { doc_count, update_seq } = await this.db.info();
    const head = `{"total_rows":${doc_count},"offset":${o.skip ?? 0},${flag(q, 'update_seq') ? `"update_seq":${JSON.stringify(update_seq)},` : ''}"rows":[`;
    return streamed(listed(head, this.db.rows(o), ']}\n'));
  }

  async #bulkGet(q: URLSearchParams, body: any): Promise<Response> {
    const refs = body?.docs, view = this.db;
    if (!Array.isArray(refs)) throw badRequest('Missing JSON list of `docs`.');
    const o = { revs: flag(q, 'revs'), latest: flag(q, 'latest'), attachments: flag(q, 'attachments') };
    const results = async function* () {
      for (let at = 0; at < refs.length; at += bulkGetBatch) yield* await Promise.all(refs.slice(at, at + bulkGetBatch).map(r => view.bulkGet(r, o)));
    };
    return streamed(listed('{"results":[', results(), ']}\n'));
  }

  /** Throws unless the peer may write a document. */
  async #allow(id: unknown, doc: unknown): Promise<void> {
    if (!doc || typeof doc !== 'object' || Array.isArray(doc)) throw badRequest('Document must be a JSON object');
    try {
      if (this.o.readOnly) throw forbidden('This share is read-only.');
      if (typeof id === 'string' && id.startsWith('_')) throw forbidden('Design documents of a share are written by its owner alone.');
      try {
        await this.o.onWrite?.({ ...doc, _id: id as string });
      } catch (e: any) {
        throw e?.status ? e : forbidden(String(e?.message ?? e));
      }
    } catch (e) {
      this.o.onRefused?.(String(id), e as Error);
      throw e;
    }
  }

  /** Refuses what the peer may not write, document by document, and writes the rest. */
  async #bulkDocs(body: any): Promise<Response> {
    if (!Array.isArray(body?.docs)) throw badRequest('POST body must include `docs` parameter.');
    const replicated = body.new_edits === false;
    const rows: (object | undefined)[] = await Promise.all(body.docs.map(async (d: Doc) => {
      try {
        await this.#allow(d?._id ?? '', d);
        return undefined;
      } catch (e: any) {
        return { id: d?._id, rev: d?._rev, error: e.name, reason: e.reason };
      }
    }));
    const allowed: Doc[] = body.docs.filter((_: unknown, i: number) => !rows[i]);
    const written = allowed.length ? await this.db.bulkDocs(allowed.map(d => ({ ...d, _id: d._id ?? crypto.randomUUID() })), replicated) : [];
    const told = written.map(w => w.error ? { id: w.id, rev: w.rev, error: w.name, reason: w.reason ?? w.message } : w);
    if (replicated) return json([...rows.filter(Boolean), ...told.filter(w => w.error)], 201);
    let next = 0;
    return json(rows.map(r => r ?? told[next++]), 201);
  }

  async #document(id: string, attachment: string, c: Call): Promise<Response> {
    if (id.startsWith('_local/')) return this.#local(attachment ? `${id.slice(7)}/${attachment}` : id.slice(7), c);
    const q = c.query, rev = q.get('rev') ?? c.request.headers.get('if-match')?.replaceAll('"', '') ?? undefined;
    if (attachment) return this.#attachment(id, attachment, rev, c);
    if (c.method === 'GET') return this.#read(id, q);
    if (c.method === 'DELETE') {
      await this.#allow(id, { _rev: rev, _deleted: true });
      return json(await this.db.remove(id, rev ?? ''));
    }
    if (c.method !== 'PUT') throw new CouchError(405, 'method_not_allowed', 'Only DELETE,GET,HEAD,PUT allowed');
    const doc: Doc = /^multipart\/related/i.test(c.request.headers.get('content-type') ?? '') ? await related(c) : await c.body();
    await this.#allow(id, doc);
    doc._id = id;
    if (q.get('new_edits') === 'false') {
      const [failed] = await this.db.bulkDocs([doc], true);
      if (failed?.error) throw failed;
      return json({ ok: true, id, rev: doc._rev }, 201);
    }
    if (rev) doc._rev = rev;
    const done = await this.db.put(doc);
    return json({ ok: true, id: done.id, rev: done.rev }, 201, { ETag: `"${done.rev}"` });
  }

  async #read(id: string, q: URLSearchParams): Promise<Response> {
    const open = q.get('open_revs'), o = {
      rev: q.get('rev') ?? undefined, latest: flag(q, 'latest'), revs: flag(q, 'revs'), revs_info: flag(q, 'revs_info'),
      conflicts: flag(q, 'conflicts'), attachments: flag(q, 'attachments'),
    };
    if (open) return json(await this.db.openRevs(id, open === 'all' ? open : value(q, 'open_revs'), o));
    const doc = await this.db.get(id, o);
    return json(doc, 200, { ETag: `"${doc._rev}"` });
  }

  async #attachment(id: string, name: string, rev: string | undefined, c: Call): Promise<Response> {
    const type = c.request.headers.get('content-type') ?? 'application/octet-stream';
    if (c.method === 'PUT' || c.method === 'DELETE') await this.#allow(id, { _rev: rev, _attachments: { [name]: { content_type: type } } });
    if (c.method === 'PUT') return json(await this.db.putAttachment(id, name, rev, binary(await c.bytes(), type), type), 201);
    if (c.method === 'DELETE') return json(await this.db.removeAttachment(id, name, rev ?? ''));
    if (c.method !== 'GET') throw new CouchError(405, 'method_not_allowed', 'Only DELETE,GET,HEAD,PUT allowed');
    const { stub, data } = await this.db.attachment(id, name, rev);
    const blob = data instanceof Blob ? data : new Blob([data as Bytes]);
    const headers: Record<string, string> = { // as Go's: what is attached is data to a browser
      'Content-Type': safeType(stub.content_type), ETag: `"${stub.digest}"`, 'Accept-Ranges': 'bytes',
      'Content-Security-Policy': "sandbox; default-src 'none'; frame-ancestors 'none'", 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer',
    };
    const range = /^bytes=(\d+)-(\d*)$/.exec(c.request.headers.get('range') ?? '');
    const from = Number(range?.[1] ?? 0), to = Math.min(range?.[2] ? Number(range[2]) + 1 : blob.size, blob.size);
    if (from > 0 && from >= to) throw new CouchError(416, 'requested_range_not_satisfiable', `The attachment is ${blob.size} bytes long.`);
    if (range) headers['Content-Range'] = `bytes ${from}-${to - 1}/${blob.size}`;
    headers['Content-Length'] = String(to - from);
    return new Response(blob.slice(from, to), { status: range ? 206 : 200, headers });
  }

  /** A peer's _local documents: it neither sees nor changes the owner's or another peer's. */
  async #local(id: string, c: Call): Promise<Response> {
    const { peer } = this.o;
    if (c.method === 'GET') return json({ ...await this.#locals.get(peer, id), _id: '_local/' + id });
    if (c.method === 'DELETE') {
      await this.#locals.remove(peer, id, c.query.get('rev') ?? undefined);
      return json({ ok: true, id: '_local/' + id, rev: '0-0' });
    }
    if (c.method !== 'PUT') throw new CouchError(405, 'method_not_allowed', 'Only DELETE,GET,PUT allowed');
    const { rev } = await this.#locals.put(peer, id, await c.bytes());
    return json({ ok: true, id: '_local/' + id, rev }, 201);
  }
}

/** What PouchDB takes for an attachment's data: Buffers in Node, Blobs elsewhere. */
function binary(data: Bytes, type: string): unknown {
  const node = (globalThis as any).Buffer;
  return node ? node.from(data) : new Blob([data], { type });
}

/** Reads a document with its attachments as multipart/related: the document, then those that follow, in its order. */
async function related(c: Call): Promise<Doc> {
  const boundary = /boundary="?([^";]+)"?/i.exec(c.request.headers.get('content-type')!)?.[1];
  if (!boundary) throw badRequest('multipart without a boundary');
  const [first, ...files] = parts(await c.bytes(), boundary);
  if (!first) throw badRequest('multipart without a document');
  const doc = readJSON(first) as Doc;
  for (const a of Object.values((doc._attachments ?? {}) as Record<string, any>)) {
    if (!a.follows) continue;
    const data = files.shift();
    if (!data || (a.length !== undefined && a.length !== data.length)) throw badRequest('an attachment is missing or cut off');
    delete a.follows;
    delete a.length;
    a.data = binary(data, a.content_type);
  }
  return doc;
}

/** Takes a multipart body apart (RFC 2046 section 5.1.1). */
function* parts(body: Bytes, boundary: string): Generator<Bytes> {
  const mark = utf8(`\r\n--${boundary}`), blank = utf8('\r\n\r\n');
  body = concat(utf8('\r\n'), body);
  for (let at = indexOf(body, mark, 0); at >= 0;) {
    at += mark.length;
    const next = indexOf(body, mark, at), begin = indexOf(body, blank, at);
    if (next < 0 || body[at] === 45) return; // "--"
    // A part without headers begins with the blank line of its own.
    yield begin >= 0 && begin < next ? body.subarray(begin + blank.length, next) : body.subarray(at + 2, next);
    at = next;
  }
}

function indexOf(body: Bytes, what: Bytes, from: number): number {
  for (let at = body.indexOf(what[0]!, from); at >= 0; at = body.indexOf(what[0]!, at + 1)) {
    if (what.every((b, i) => body[at + i] === b)) return at;
  }
  return -1;
}
