// A database as a peer sees it: all of its documents, or those within limits. Every document and every revision that a
// share tells of comes out of a View, which judges what it answers with, not what it was asked for. It has the methods that
// a share's API uses, each written out, so that whoever uses one more decides here. The rules are those of Go's share/filter.go:
//
// Every revision is judged by itself, and one that is not seen is as if it were not there. When a document
// leaves the limits nothing is told: a replica keeps the last revision it was given. A tombstone is seen where the newest
// revision before it that is still there is, and bare unless it is within the limits itself. What cannot be kept back: the
// update sequence counts all changes, a revision's ancestry names its ancestors, and that an id is taken shows when a document
// is made under it. _local documents are not documents: here are none, whatever the id was wrapped in.
import { badRequest, CouchError, forbidden, notFound } from './errors.js';
import type { Doc } from './documents.js';
import type { Pouch, PouchChange } from './pouch.js';
import type { Work } from './selector.js';

/** What openers of a share see: documents that filter returns true for, and whose ids are listed. Missing: all. */
export interface Limits { filter?: (doc: Doc) => boolean; docIds?: string[] }

/** A revision with its ancestry, as revs=true tells it. */
interface Leaf extends Doc { _rev: string; _revisions: { start: number; ids: string[] } }

/** The leaves of a document, those that are seen with the winner first. */
interface Leaves { seen: Leaf[]; hidden: Leaf[] }

/** What is asked of documents: members that they come with. */
export interface GetOptions { rev?: string; latest?: boolean; revs?: boolean; revs_info?: boolean; conflicts?: boolean; attachments?: boolean }

/** What is asked of the rows of all documents. */
export interface RowOptions extends GetOptions {
  keys?: unknown[]; startkey?: unknown; endkey?: unknown; inclusive_end?: boolean; descending?: boolean;
  limit?: number; skip?: number; include_docs?: boolean;
}

/** A test of a document, by a selector. */
export type Matcher = (doc: Doc, work: Work) => boolean;

/** What is asked of a changes feed. */
export interface ChangesOptions extends GetOptions {
  since?: unknown; limit?: number; style?: string; include_docs?: boolean; descending?: boolean; ids?: Set<unknown>; match?: Matcher;
}

const missing = () => notFound('missing');
const outside = () => forbidden('This share is limited to other documents.');
const maxBefore = 32; // how far the past of a tombstone is looked into
const rowBatch = 500, docBatch = 50; // read at a time

const generation = (rev: string): number => parseInt(rev, 10);

/** Leaves out what is undefined, which PouchDB does not always take for missing. */
export const defined = <T extends object>(o: T): Partial<T> =>
  Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined && v !== false)) as Partial<T>;

/** Whether it can be the id of a document, which _local documents' are not. */
export const isDocID = (id: unknown): id is string => typeof id === 'string' && id !== '' && (id[0] !== '_' || id.startsWith('_design/'));

/** CouchDB's order of leaves: the winner first. */
function better(a: Leaf, b: Leaf): number {
  if (!a._deleted !== !b._deleted) return a._deleted ? 1 : -1;
  return generation(b._rev) - generation(a._rev) || (a._rev < b._rev ? 1 : -1);
}

/** Whether a revision is d's or one that d comes from. */
function descends(d: Leaf, rev: string): boolean {
  const i = d._revisions.start - generation(rev);
  return d._revisions.ids[i] === rev.slice(rev.indexOf('-') + 1);
}

const members = (d: Doc): string[] => Object.keys(d).filter(k => k[0] !== '_' || k === '_attachments');

/** Whether a revision has any content. */
const says = (d: Doc): boolean => members(d).length > 0;

/** A revision without its content. */
function bare(d: Leaf): Leaf {
  const out = { ...d };
  for (const k of members(d)) delete out[k];
  return out;
}

/** A database as a peer sees it. */
export class View {
  readonly #ids?: Set<string>;
  readonly #filter?: (doc: Doc) => boolean;
  #counted?: { seq: unknown; count: Promise<number> };

  constructor(private readonly db: Pouch, limits: Limits = {}) {
    this.#filter = limits.filter;
    if (limits.docIds) this.#ids = new Set(limits.docIds);
  }

  /** Whether all documents are seen. */
  get #all(): boolean {
    return !this.#filter && !this.#ids;
  }

  #has(id: unknown): id is string {
    return isDocID(id) && (!this.#ids || this.#ids.has(id));
  }

  #fits(doc: Doc): boolean {
    return !this.#filter || this.#filter(doc) === true;
  }

  /** The judgement: a revision as it is seen, undefined if it is not. */
  async #show(d: Leaf): Promise<Leaf | undefined> {
    if (!this.#has(d._id)) return undefined;
    const fits = this.#fits(d);
    if (!this.#filter || !d._deleted) return fits ? d : undefined;
    for (let i = 1; i < Math.min(d._revisions.ids.length, maxBefore); i++) {
      const rev = `${d._revisions.start - i}-${d._revisions.ids[i]}`;
      const before = await this.db.get(d._id, { rev }).catch(() => undefined) as Doc | undefined;
      if (before && !before._deleted) return this.#fits(before) ? fits ? d : bare(d) : undefined;
    }
    return fits && says(d) ? d : undefined;
  }

  /** The leaves of a document, judged. */
  async #leaves(id: unknown): Promise<Leaves> {
    const out: Leaves = { seen: [], hidden: [] };
    if (!this.#has(id)) return out;
    const all: { ok?: Leaf }[] = await this.db.get(id, { open_revs: 'all', revs: true }).catch(none) ?? [];
    for (const { ok } of all) {
      const shown = ok && await this.#show(ok);
      if (shown) out.seen.push(shown);
      else if (ok) out.hidden.push(ok);
    }
    out.seen.sort(better);
    return out;
  }

  /** The revision that is seen under an id: the winner, the given one, or the latest that comes of that. Throws 404. */
  async #revision(id: unknown, rev?: unknown, latest?: boolean): Promise<Leaf> {
    if (rev !== undefined && typeof rev !== 'string') throw badRequest('Invalid rev format');
    if (!this.#has(id)) throw missing();
    if (rev === undefined) {
      const [winner] = (await this.#leaves(id)).seen;
      if (!winner) throw missing();
      if (winner._deleted) throw notFound('deleted');
      return winner;
    }
    const last = latest && (await this.#leaves(id)).seen.find(l => descends(l, rev));
    if (last) return last;
    const d: Leaf | undefined = await this.db.get(id, { rev, revs: true }).catch(none), shown = d?._rev === rev && await this.#show(d);
    if (!shown) throw missing();
    return shown;
  }

  /** Gives a revision that is seen those members that were asked for, and no others. */
  async #dress(d: Leaf, o: GetOptions, seen?: Leaf[]): Promise<Doc> {
    const { _revisions, ...out } = d as Doc;
    if (o.revs) out._revisions = _revisions;
    if (o.attachments && d._attachments) out._attachments = (await this.db.get(d._id, { rev: d._rev, attachments: true }))._attachments;
    if (!o.conflicts) return out;
    const others = (seen ?? (await this.#leaves(d._id)).seen).filter(l => !l._deleted && l._rev !== d._rev).map(l => l._rev);
    return others.length ? { ...out, _conflicts: others } : out;
  }

  /** Reads a revision. Throws 404. */
  async get(id: string, o: GetOptions = {}): Promise<Doc> {
    if (this.#all && isDocID(id)) return this.db.get(id, defined(o));
    return this.#dress(await this.#revision(id, o.rev, o.latest), o);
  }

  /** Reads the leaves of a document, or the given revisions. Throws 404 if there is no leaf. */
  async openRevs(id: string, revs: unknown, o: GetOptions): Promise<object[]> {
    if (revs !== 'all' && !Array.isArray(revs)) throw badRequest('open_revs is a list of revisions, or all.');
    if (revs === 'all') {
      const { seen } = await this.#leaves(id);
      if (!seen.length) throw missing();
      return Promise.all(seen.map(async l => ({ ok: await this.#dress(l, o, seen) })));
    }
    const out: object[] = [];
    for (const rev of revs) out.push(await this.get(id, { ...o, rev: String(rev) }).then(ok => ({ ok }), () => ({ missing: rev })));
    return out;
  }

  /** Answers one reference of _bulk_get. */
  async bulkGet(ref: any, o: GetOptions): Promise<object> {
    const id = ref?.id, rev = ref?.rev;
    try {
      if (rev !== undefined) return { id, docs: [{ ok: await this.get(id, { ...o, rev }) }] };
      const { seen } = await this.#leaves(id);
      if (!seen.length) throw missing();
      return { id, docs: await Promise.all(seen.map(async l => ({ ok: await this.#dress(l, o, seen) }))) };
    } catch {
      return { id, docs: [{ error: { id, rev: rev ?? 'undefined', error: 'not_found', reason: 'missing' } }] };
    }
  }

  /** Gives the rows of all documents that are seen. */
  async *rows(o: RowOptions): AsyncGenerator<object> {
    let skip = o.skip ?? 0, left = o.limit ?? Infinity;
    for await (const row of o.keys ? this.#byKey(o.keys, o) : this.#range(o)) {
      if (left <= 0) return;
      if (skip-- > 0) continue;
      left--;
      yield row;
    }
  }

  async *#byKey(keys: unknown[], o: RowOptions): AsyncGenerator<object> {
    const batch = o.include_docs ? docBatch : rowBatch, order = o.descending ? [...keys].reverse() : keys;
    for (let at = 0; at < order.length; at += batch) {
      const some = order.slice(at, at + batch), ids = some.filter(k => this.#has(k));
      const { rows } = ids.length ? await this.db.allDocs({ keys: ids, ...this.#reading(o) }) as { rows: any[] } : { rows: [] };
      let next = 0;
      for (const key of some) yield (this.#has(key) ? await this.#row(rows[next++], o) : undefined) ?? { key, error: 'not_found' };
    }
  }

  async *#range(o: RowOptions): AsyncGenerator<object> {
    const batch = o.include_docs || !this.#all ? docBatch : rowBatch, { endkey, descending = false, inclusive_end = true } = o;
    for (let startkey = o.startkey, skip = 0; ;) {
      const bounds = { ...startkey !== undefined && { startkey }, ...endkey !== undefined && { endkey } };
      const { rows } = await this.db.allDocs({ ...bounds, descending, inclusive_end, skip, limit: batch, ...this.#reading(o) }) as { rows: any[] };
      for (const r of rows) {
        const seen = await this.#row(r, o);
        if (seen && !(seen as any).value.deleted) yield seen;
      }
      if (rows.length < batch) return;
      [startkey, skip] = [rows.at(-1).key, 1];
    }
  }

  /** What is read of each row: what it takes to judge it, or what was asked for. */
  #reading({ include_docs, conflicts, attachments }: RowOptions): object {
    if (this.#filter) return { include_docs: true, conflicts: true };
    return include_docs ? defined({ include_docs, conflicts, attachments }) : {};
  }

  /** A row of allDocs as it is seen. */
  async #row(r: any, o: RowOptions): Promise<object | undefined> {
    if (r.error || !this.#has(r.id)) return undefined;
    if (!this.#filter) return r;
    if (r.doc && !r.doc._conflicts && !r.value.deleted) {
      if (!this.#fits(r.doc)) return undefined;
      return { id: r.id, key: r.key, value: { rev: r.value.rev }, ...o.include_docs && { doc: await this.#dress(r.doc, { attachments: o.attachments }) } };
    }
    const { seen } = await this.#leaves(r.id), winner = seen[0];
    if (!winner) return undefined;
    const value = { rev: winner._rev, ...winner._deleted && { deleted: true } };
    return { id: r.id, key: r.key, value, ...o.include_docs && { doc: winner._deleted ? null : await this.#dress(winner, o, seen) } };
  }

  /** How many documents are seen. Who asks at the same time is told by the same look. */
  async count(): Promise<number> {
    const { update_seq, doc_count } = await this.db.info();
    if (this.#all) return doc_count;
    if (this.#counted?.seq !== update_seq) this.#counted = { seq: update_seq, count: this.#look() };
    return this.#counted!.count.catch(e => {
      this.#counted = undefined;
      throw e;
    });
  }

  async #look(): Promise<number> {
    let count = 0;
    for await (const _ of this.#ids ? this.#alive([...this.#ids]) : this.#range({})) count++;
    return count;
  }

  async *#alive(keys: string[]): AsyncGenerator<object> {
    for await (const r of this.#byKey(keys, {})) if (!(r as any).error && !(r as any).value.deleted) yield r;
  }

  async info(): Promise<{ doc_count: number; update_seq: unknown }> {
    const { update_seq } = await this.db.info();
    return { doc_count: await this.count(), update_seq };
  }

  /** Resolves when the database has changed since, or the signal is aborted. What has changed is read by another. */
  changed(since: unknown, signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const feed = this.db.changes({ since, live: true, return_docs: false });
      const end = () => {
        signal.removeEventListener('abort', end);
        feed.cancel();
        resolve();
      };
      signal.addEventListener('abort', end);
      if (signal.aborted) end();
      feed.catch(() => {});
      feed.on('change', end).on('error', end);
    });
  }

  /** Gives the changes since, and returns up to where it has looked: that depends on nothing hidden, because the database is asked for all. */
  async *changes(o: ChangesOptions, work: Work): AsyncGenerator<PouchChange, unknown> {
    const direct = this.#all && !o.ids && !o.match && !(o.descending && o.include_docs);
    const docs = direct && o.include_docs, style = direct && o.style !== 'all_docs' ? 'main_only' : 'all_docs';
    let left = o.limit === undefined ? Infinity : Math.max(o.limit, 1);
    for (let since = o.since; ;) {
      const limit = docs ? docBatch : rowBatch;
      // Backwards there are no parts: what was read last is not where to go on.
      const some = await this.db.changes({ since, style, ...o.descending ? { descending: true } : { limit }, ...docs && defined({ include_docs: true, conflicts: o.conflicts, attachments: o.attachments }) });
      for (const row of some.results) {
        const seen = direct ? row : await this.#change(row, o, work);
        if (seen) yield seen;
        if (seen && !--left) return row.seq;
      }
      since = some.last_seq;
      if (o.descending || some.results.length < limit) return since;
    }
  }

  async #change(row: PouchChange, o: ChangesOptions, work: Work): Promise<PouchChange | undefined> {
    if (!this.#has(row.id) || o.ids && !o.ids.has(row.id)) return undefined;
    const { seen } = await this.#leaves(row.id), winner = seen[0];
    if (!winner) return undefined;
    if (o.match) {
      await work.next();
      if (!o.match(await this.#dress(winner, {}), work)) return undefined;
    }
    const revs = (o.style === 'all_docs' ? seen : [winner]).map(l => ({ rev: l._rev }));
    const out: PouchChange = { seq: row.seq, id: row.id, changes: revs };
    if (winner._deleted) out.deleted = true;
    if (o.include_docs) out.doc = await this.#dress(winner, { conflicts: o.conflicts, attachments: o.attachments }, seen);
    return out;
  }

  /** Tells what is lacking of what is seen: a revision that is not is lacking, whether it is there or not. */
  async revsDiff(diff: Record<string, unknown>): Promise<object> {
    const asked = Object.entries(diff ?? {}).map(([id, revs]) => {
      if (!Array.isArray(revs) || !revs.every(r => typeof r === 'string')) throw badRequest('Revisions are a list of strings.');
      return [id, revs as string[]] as const;
    });
    const known: any = await this.db.revsDiff(Object.fromEntries(asked.filter(([id]) => this.#has(id))));
    if (this.#all && asked.every(([id]) => this.#has(id))) return known;
    const out: Record<string, { missing: string[] }> = Object.create(null);
    for (const [id, revs] of asked) {
      const lacking: string[] = this.#has(id) ? known[id]?.missing ?? [] : revs;
      const { seen } = revs.length > lacking.length ? await this.#leaves(id) : { seen: [] }, not: string[] = [];
      for (const rev of revs) if (lacking.includes(rev) || !await this.#known(id, rev, seen)) not.push(rev);
      if (not.length) out[id] = { missing: not };
    }
    return out;
  }

  async #known(id: string, rev: string, seen: Leaf[]): Promise<boolean> {
    return seen.some(l => descends(l, rev)) || !!await this.#revision(id, rev).catch(none);
  }

  /** Opens an attachment of a revision that is seen. Throws 404. */
  async attachment(id: string, name: string, rev?: string): Promise<{ stub: { content_type: string; digest: string }; data: Blob | Uint8Array }> {
    const d = await this.#revision(id, rev), all = (d._attachments ?? {}) as Record<string, any>;
    if (!Object.hasOwn(all, name)) throw notFound('Document is missing attachment');
    return { stub: all[name], data: await this.db.getAttachment(id, name, { rev: d._rev }) };
  }

  /** Throws unless a write stays within the limits. */
  async #writable(d: Doc, replicated: boolean): Promise<void> {
    if (!this.#has(d._id)) throw outside();
    if (this.#all) return;
    // As PouchDB says it, but before it is known whether the document is there.
    if ((replicated ? !d._revisions : d._rev) && !/^\d+-/.test(String(d._rev))) throw badRequest('Invalid rev format');
    const { seen, hidden } = await this.#leaves(d._id), fits = this.#fits(d);
    // A stub takes what any document of the database has under its digest.
    for (const [name, a] of Object.entries((d._attachments ?? {}) as Record<string, any>)) {
      if (!a?.stub || seen.some(l => (l._attachments as any)?.[name]?.digest === a.digest)) continue;
      throw new CouchError(412, 'missing_stub', `Invalid attachment stub in ${d._id} for ${name}`);
    }
    if (!this.#filter) return;
    if (!fits && !(d._deleted && !says(d) && seen.length)) throw outside();
    if (!replicated && d._rev && !seen.some(l => l._rev === d._rev)) throw new CouchError(409, 'conflict', 'Document update conflict.');
    if (!seen.length && hidden.some(l => !l._deleted) && (replicated || !d._rev)) throw outside();
    const revisions = d._revisions as Leaf['_revisions'] | undefined;
    if (replicated && revisions && hidden.some(l => descends({ ...d, _revisions: revisions } as Leaf, l._rev))) throw outside();
  }

  async put(doc: Doc): Promise<{ ok: boolean; id: string; rev: string }> {
    await this.#writable(doc, false);
    return this.db.put(doc);
  }

  async remove(id: string, rev: string): Promise<{ ok: boolean; id: string; rev: string }> {
    await this.#revision(id, rev);
    return this.db.remove(id, rev);
  }

  async bulkDocs(docs: Doc[], replicated: boolean): Promise<any[]> {
    const refused: (CouchError | undefined)[] = [];
    for (const d of docs) refused.push(await this.#writable(d, replicated).then(() => undefined, e => e as CouchError));
    const allowed = docs.filter((_, i) => !refused[i]), written = allowed.length ? await this.db.bulkDocs(allowed, { new_edits: !replicated }) : [];
    const failed = (d: Doc, e: CouchError) => ({ id: d._id, rev: d._rev, error: true, status: e.status, name: e.name, reason: e.reason });
    if (replicated) return [...docs.flatMap((d, i) => refused[i] ? [failed(d, refused[i])] : []), ...written];
    let next = 0;
    return docs.map((d, i) => refused[i] ? failed(d, refused[i]) : written[next++]);
  }

  /** Writes an attachment: the document that comes of it is judged as any. */
  async putAttachment(id: string, name: string, rev: string | undefined, data: unknown, type: string): Promise<object> {
    const d = rev === undefined ? { _id: id } as Doc : await this.get(id, { rev });
    await this.#writable({ ...d, _attachments: { ...d._attachments as object, [name]: { content_type: type } } }, false);
    return this.db.putAttachment(id, name, rev, data, type);
  }

  async removeAttachment(id: string, name: string, rev: string): Promise<object> {
    const d = await this.get(id, { rev }), { [name]: _, ...left } = (d._attachments ?? {}) as Record<string, unknown>;
    await this.#writable({ ...d, _attachments: left }, false);
    return this.db.removeAttachment(id, name, rev);
  }
}

const none = (): any => undefined;
