// CouchDB's HTTP API over a PouchDB: (Request) => Response, for one database, one client and what it
// may do. There is no route that destroys, compacts or purges, writes design documents or security, or runs code of a peer.
import { safeType } from './answer.js';
import { changesFeed } from './changes.js';
import type { Doc } from './documents.js';
import { type Bytes, concat, text, utf8 } from './encoding.js';
import type { Handler } from './httpserver.js';
import { badRequest, CouchError, forbidden, notFound } from './errors.js';
import type { Pouch } from './pouch.js';

/** How a database is served to one peer. */
export interface ServeOptions {
  /** The database's name in URLs. */
  name: string;
  /** Identifies the server: replications go on from their checkpoints as long as it is the same. */
  uuid: string;
  readOnly: boolean;
  /** Whose _local documents these are: every peer has its own. */
  peer: string;
  /** Asked before a peer writes one more _local document. */
  allowLocal?: (id: string) => boolean;
  /** Asked about each document that the peer writes; what it throws refuses it. */
  onWrite?: (doc: Doc) => unknown;
  /** Is told of a write that was refused. */
  onRefused?: (id: string, e: Error) => void;
}

const maxLocalDoc = 64 << 10;

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
export interface Call { method: string; query: URLSearchParams; request: Request; signal: AbortSignal; body(): Promise<any>; bytes(): Promise<Bytes> }

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

/** Leaves out what is undefined, which PouchDB does not always take for missing. */
export const defined = <T extends object>(o: T): Partial<T> =>
  Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined && v !== false)) as Partial<T>;

function unescape(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw badRequest('malformed path');
  }
}

class API {
  constructor(private readonly db: Pouch, private readonly o: ServeOptions) {}

  async answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const path = url.pathname.slice(1).split('/').map(unescape);
    const method = request.method === 'HEAD' ? 'GET' : request.method;
    const bytes = async () => new Uint8Array(await request.arrayBuffer());
    const body = async () => {
      try {
        return JSON.parse(text(await bytes()));
      } catch {
        throw badRequest('invalid UTF-8 JSON');
      }
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
      const { id, rev } = await this.db.post(doc);
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
    const db = this.db, q = c.query;
    switch (`${c.method} ${path}`) {
      case 'GET _all_docs':
      case 'POST _all_docs':
        return json(await db.allDocs(this.#allDocs(q, c.method === 'POST' ? await c.body() : {})));
      case 'GET _changes':
      case 'POST _changes':
        return changesFeed(db, c);
      case 'POST _bulk_get': {
        const { docs } = await c.body();
        if (!Array.isArray(docs)) throw badRequest('Missing JSON list of `docs`.');
        return json(await db.bulkGet(defined({ docs, revs: flag(q, 'revs'), latest: flag(q, 'latest'), attachments: flag(q, 'attachments') })));
      }
      case 'POST _revs_diff':
        return json(await db.revsDiff(await c.body()));
      case 'POST _bulk_docs':
        return this.#bulkDocs(await c.body());
      case 'POST _ensure_full_commit':
        return json({ ok: true, instance_start_time: '0' }, 201);
      case 'POST _find':
        if (db.find) return json(await db.find(await c.body()));
        break;
      case 'POST _explain':
        if (db.explain) return json(await db.explain(await c.body()));
        break;
      case 'GET _index':
        if (db.getIndexes) return json(await db.getIndexes());
        break;
      case 'GET _revs_limit':
        return json(1000);
    }
    if (path === '_find' || path === '_explain' || path === '_index') throw notFound('The sharer\'s PouchDB has no pouchdb-find.');
    throw forbidden('A share is for reading and replicating documents.');
  }

  #allDocs(q: URLSearchParams, body: any): object {
    const inclusive = q.get('inclusive_end') === 'false' ? { inclusive_end: false } : {};
    return Object.assign(inclusive, defined({
      keys: body.keys ?? value(q, 'keys'), key: value(q, 'key'),
      startkey: value(q, 'startkey', 'start_key'), endkey: value(q, 'endkey', 'end_key'),
      descending: flag(q, 'descending'), limit: value(q, 'limit'), skip: value(q, 'skip'), include_docs: flag(q, 'include_docs'),
      conflicts: flag(q, 'conflicts'), attachments: flag(q, 'attachments'), update_seq: flag(q, 'update_seq'),
    }));
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
    const written = allowed.length ? await this.db.bulkDocs(allowed, { new_edits: !replicated }) : [];
    const told = written.map(w => w.error ? { id: w.id, rev: w.rev, error: w.name, reason: w.reason ?? w.message } : w);
    if (replicated) return json([...rows.filter(Boolean), ...told.filter(w => w.error)], 201);
    let next = 0;
    return json(rows.map(r => r ?? told[next++]), 201);
  }

  async #document(id: string, attachment: string, c: Call): Promise<Response> {
    if (id.startsWith('_local/')) return this.#local(id.slice(7), c);
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
      const [failed] = await this.db.bulkDocs([doc], { new_edits: false });
      if (failed?.error) throw failed;
      return json({ ok: true, id, rev: doc._rev }, 201);
    }
    if (rev) doc._rev = rev;
    const done = await this.db.put(doc);
    return json({ ok: true, id: done.id, rev: done.rev }, 201, { ETag: `"${done.rev}"` });
  }

  async #read(id: string, q: URLSearchParams): Promise<Response> {
    const openRevs = q.get('open_revs');
    const doc = await this.db.get(id, defined({
      rev: q.get('rev') ?? undefined, open_revs: openRevs === 'all' ? 'all' : value(q, 'open_revs'), latest: flag(q, 'latest'),
      revs: flag(q, 'revs'), revs_info: flag(q, 'revs_info'), conflicts: flag(q, 'conflicts'), attachments: flag(q, 'attachments'),
    }));
    return json(doc, 200, openRevs ? {} : { ETag: `"${doc._rev}"` });
  }

  async #attachment(id: string, name: string, rev: string | undefined, c: Call): Promise<Response> {
    const type = c.request.headers.get('content-type') ?? 'application/octet-stream';
    if (c.method === 'PUT' || c.method === 'DELETE') await this.#allow(id, { _rev: rev, _attachments: { [name]: { content_type: type } } });
    if (c.method === 'PUT') return json(await this.db.putAttachment(id, name, rev, binary(await c.bytes(), type), type), 201);
    if (c.method === 'DELETE') return json(await this.db.removeAttachment(id, name, rev ?? ''));
    if (c.method !== 'GET') throw new CouchError(405, 'method_not_allowed', 'Only DELETE,GET,HEAD,PUT allowed');
    const stub = (await this.db.get(id, defined({ rev })))._attachments?.[name];
    if (!stub) throw notFound('Document is missing attachment');
    const data = await this.db.getAttachment(id, name, defined({ rev }));
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
    const own = `_local/peer:${this.o.peer}:${id}`;
    if (c.method === 'GET') return json({ ...await this.db.get(own), _id: '_local/' + id });
    if (c.method === 'DELETE') {
      const { _rev } = await this.db.get(own);
      await this.db.remove(own, c.query.get('rev') ?? _rev);
      return json({ ok: true, id: '_local/' + id, rev: '0-0' });
    }
    if (c.method !== 'PUT') throw new CouchError(405, 'method_not_allowed', 'Only DELETE,GET,PUT allowed');
    const bytes = await c.bytes();
    if (bytes.length > maxLocalDoc) throw new CouchError(413, 'document_too_large', 'A _local document of a share is limited to 64 KiB.');
    if (this.o.allowLocal?.(own) === false) throw forbidden('Too many _local documents.');
    const { rev } = await this.db.put({ ...JSON.parse(text(bytes)), _id: own });
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
  const doc = JSON.parse(text(first)) as Doc;
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
  for (let at = find(body, mark, 0); at >= 0;) {
    at += mark.length;
    const next = find(body, mark, at), begin = find(body, blank, at);
    if (next < 0 || body[at] === 45) return; // "--"
    // A part without headers begins with the blank line of its own.
    yield begin >= 0 && begin < next ? body.subarray(begin + blank.length, next) : body.subarray(at + 2, next);
    at = next;
  }
}

function find(body: Bytes, what: Bytes, from: number): number {
  for (let at = body.indexOf(what[0]!, from); at >= 0; at = body.indexOf(what[0]!, at + 1)) {
    if (what.every((b, i) => body[at + i] === b)) return at;
  }
  return -1;
}
