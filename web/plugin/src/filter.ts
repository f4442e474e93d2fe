// A database of which openers see a part only. It is a PouchDB with the methods that a share's API uses,
// each written out, so that whoever uses one more decides here. The rules are those of Go's share/filter.go:
//
// Every revision is judged by itself, and one that is not seen is as if it were not there. When a document
// leaves the limits nothing is told: a replica keeps the last revision it was given. A tombstone is seen where the newest
// revision before it that is still there is. What cannot be kept back: the update sequence counts all changes, a
// revision's ancestry names its ancestors, and that an id is taken shows when a document is made under it.
import { CouchError, forbidden, notFound } from './errors.js';
import type { Doc } from './documents.js';
import type { Pouch, PouchChange, PouchChanges } from './pouch.js';

/** What openers of a share see: documents that filter returns true for, and whose ids are listed. Missing: all. */
export interface Limits { filter?: (doc: Doc) => boolean; docIds?: string[] }

/** A revision with its ancestry, as revs=true tells it. */
interface Leaf extends Doc { _rev: string; _revisions: { start: number; ids: string[] } }

const missing = () => notFound('missing');
const outside = () => forbidden('This share is limited to other documents.');
const maxBefore = 32; // how far the past of a tombstone is looked into
const batch = 500;

const generation = (rev: string): number => parseInt(rev, 10);
const isLocal = (id: unknown): boolean => typeof id === 'string' && id.startsWith('_local/');

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

/** Limits what is seen of a database. */
export class FilteredPouch {
  readonly #ids?: Set<string>;
  #counted?: { seq: unknown; count: number };

  constructor(private readonly db: Pouch, private readonly limits: Limits) {
    if (limits.docIds) this.#ids = new Set(limits.docIds);
  }

  get name(): string {
    return this.db.name;
  }

  id(): Promise<string> {
    return this.db.id();
  }

  #has(id: string): boolean {
    return !this.#ids || this.#ids.has(id);
  }

  #fits(doc: Doc): boolean {
    return !this.limits.filter || this.limits.filter(doc) === true;
  }

  /** Whether a revision that is there is seen. */
  async #sees(d: Leaf): Promise<boolean> {
    if (!this.#has(d._id)) return false;
    if (!this.limits.filter || !d._deleted) return this.#fits(d);
    for (let i = 1; i < Math.min(d._revisions.ids.length, maxBefore); i++) {
      const rev = `${d._revisions.start - i}-${d._revisions.ids[i]}`;
      const before = await this.db.get(d._id, { rev }).catch(() => undefined) as Doc | undefined;
      if (before && !before._deleted) return this.#fits(before);
    }
    return false;
  }

  /** The leaves of a document that are seen, the winner first. */
  async #leaves(id: string): Promise<Leaf[]> {
    if (!this.#has(id)) return [];
    const all: { ok?: Leaf }[] = await this.db.get(id, { open_revs: 'all', revs: true }).catch(() => []);
    const seen: Leaf[] = [];
    for (const { ok } of all) if (ok && await this.#sees(ok)) seen.push(ok);
    return seen.sort(better);
  }

  /** The revision that is seen under an id, or the given one. Throws 404. */
  async #revision(id: string, rev?: string): Promise<Leaf> {
    if (!this.#has(id)) throw missing();
    if (rev !== undefined) {
      const d: Leaf = await this.db.get(id, { rev, revs: true });
      if (!await this.#sees(d)) throw missing();
      return d;
    }
    const [winner] = await this.#leaves(id);
    if (!winner) throw missing();
    if (winner._deleted) throw notFound('deleted');
    return winner;
  }

  async get(id: string, o: any = {}): Promise<any> {
    if (isLocal(id)) return this.db.get(id, o);
    if (o.open_revs) return this.#openRevs(id, o);
    const { _rev } = await this.#revision(id, o.rev), { conflicts, revs_info: _, ...rest } = o;
    const doc = await this.db.get(id, { ...rest, rev: _rev });
    if (!conflicts) return doc;
    const others = (await this.#leaves(id)).filter(l => !l._deleted && l._rev !== _rev).map(l => l._rev);
    return others.length ? { ...doc, _conflicts: others } : doc;
  }

  async #openRevs(id: string, o: any): Promise<object[]> {
    if (!this.#has(id)) throw missing();
    if (o.open_revs === 'all') {
      const seen = await this.#leaves(id);
      if (!seen.length) throw missing();
      return this.db.get(id, { ...o, open_revs: seen.map(l => l._rev) });
    }
    const rows: { ok?: Leaf }[] = await this.db.get(id, { ...o, revs: true });
    return Promise.all(rows.map(async (r, i) => !r.ok || await this.#sees(r.ok) ? r : { missing: o.open_revs[i] }));
  }

  async allDocs(o: any = {}): Promise<object> {
    const { skip = 0, limit = Infinity, ...rest } = o;
    const keys: string[] | undefined = o.keys ?? (o.key === undefined ? undefined : [o.key]);
    const all = await this.db.allDocs({ ...rest, include_docs: true, conflicts: true }) as { rows: any[]; [k: string]: unknown };
    const rows: object[] = [];
    let passed = 0;
    for (const r of all.rows) {
      if (rows.length >= limit) break;
      const seen = await this.#row(r, o) ?? (keys && { key: r.key ?? r.id, error: 'not_found' });
      if (seen && passed++ >= skip) rows.push(seen);
    }
    return { ...all, total_rows: await this.#count(), offset: skip, rows };
  }

  /** A row of allDocs as it is seen. */
  async #row(r: any, o: any): Promise<object | undefined> {
    if (r.error || !this.#has(r.id)) return undefined;
    const alone = r.doc && !r.doc._conflicts, winner = alone && !r.value.deleted ? r.doc : (await this.#leaves(r.id))[0];
    if (!winner || (alone && !r.value.deleted && !this.#fits(r.doc)) || (winner._deleted && !o.keys)) return undefined;
    const value = { rev: winner._rev, ...winner._deleted && { deleted: true } };
    const doc = o.include_docs && !winner._deleted && await this.get(r.id, { rev: winner._rev, conflicts: o.conflicts, attachments: o.attachments });
    return { id: r.id, key: r.key, value, ...o.include_docs && { doc: doc || null } };
  }

  /** How many documents are seen. */
  async #count(): Promise<number> {
    const { update_seq } = await this.db.info();
    if (this.#counted?.seq !== update_seq) {
      const { rows } = await this.db.allDocs({ include_docs: true, conflicts: true }) as { rows: any[] };
      let count = 0;
      for (const r of rows) if (await this.#row(r, {})) count++;
      this.#counted = { seq: update_seq, count };
    }
    return this.#counted!.count;
  }

  async info(): Promise<{ doc_count: number; update_seq: unknown }> {
    const { update_seq } = await this.db.info();
    return { doc_count: await this.#count(), update_seq };
  }

  /** A changes feed. One that is live only wakes: what has changed is read by another. */
  changes(o: any = {}): PouchChanges {
    if (o.live) return this.db.changes(o);
    return this.#changes(o) as PouchChanges;
  }

  async #changes(o: any): Promise<{ results: PouchChange[]; last_seq: unknown; pending?: number }> {
    const { limit = Infinity, ...rest } = o, results: PouchChange[] = [];
    for (let since = o.since; ;) {
      const some = await this.db.changes({ ...rest, since, limit: batch, style: 'all_docs' });
      for (const row of some.results) {
        const seen = await this.#change(row, o);
        if (seen) results.push(seen);
        if (results.length >= limit) return { results, last_seq: row.seq };
      }
      since = some.last_seq;
      if (some.results.length < batch) return { results, last_seq: since, pending: 0 };
    }
  }

  async #change(row: PouchChange, o: any): Promise<PouchChange | undefined> {
    const seen = await this.#leaves(row.id), winner = seen[0];
    if (!winner) return undefined;
    const revs = (o.style === 'all_docs' ? seen : [winner]).map(l => ({ rev: l._rev }));
    const out: PouchChange = { seq: row.seq, id: row.id, changes: revs };
    if (winner._deleted) out.deleted = true;
    if (o.include_docs) out.doc = await this.get(row.id, { rev: winner._rev, conflicts: o.conflicts, attachments: o.attachments });
    return out;
  }

  /** Tells what is lacking of what is seen: a revision that is not is lacking, whether it is there or not. */
  async revsDiff(diff: any): Promise<object> {
    const known: any = await this.db.revsDiff(diff), out: Record<string, { missing: string[]; possible_ancestors?: string[] }> = {};
    for (const [id, revs] of Object.entries(diff as Record<string, string[]>)) {
      const lacking = known[id]?.missing ?? [], not = [];
      const seen = revs.length > lacking.length ? await this.#leaves(id) : [];
      for (const rev of revs) if (lacking.includes(rev) || !await this.#known(id, rev, seen)) not.push(rev);
      if (not.length) out[id] = { missing: not };
    }
    return out;
  }

  async #known(id: string, rev: string, seen: Leaf[]): Promise<boolean> {
    return seen.some(l => descends(l, rev)) || !!await this.#revision(id, rev).catch(() => undefined);
  }

  async bulkGet(o: any): Promise<{ results: unknown[] }> {
    const results = await Promise.all(o.docs.map(async ({ id, rev }: { id: string; rev?: string }) => {
      const { docs: _, ...rest } = o;
      try {
        const revs = rev !== undefined ? [rev] : (await this.#leaves(id)).map(l => l._rev);
        if (!revs.length) throw missing();
        return { id, docs: await Promise.all(revs.map(async r => ({ ok: await this.get(id, { ...rest, rev: r }) }))) };
      } catch {
        return { id, docs: [{ error: { id, rev: rev ?? 'undefined', error: 'not_found', reason: 'missing' } }] };
      }
    }));
    return { results };
  }

  /** Looks among the documents that are seen. What use_index or execution_stats would tell is the owner's. */
  get find(): ((q: any) => Promise<object>) | undefined {
    if (!this.db.find) return undefined;
    return async ({ selector, sort, limit = 25, skip = 0, fields }) => {
      const { docs } = await this.db.find!({ selector, ...sort && { sort }, limit: Number.MAX_SAFE_INTEGER }) as { docs: Doc[] };
      const seen = docs.filter(d => this.#has(d._id) && this.#fits(d)).slice(skip, skip + limit);
      return { docs: fields ? seen.map(d => pick(d, fields)) : seen, bookmark: 'nil' };
    };
  }

  async getAttachment(id: string, name: string, o: any = {}): Promise<Blob | Uint8Array> {
    const { _rev } = await this.#revision(id, o.rev);
    return this.db.getAttachment(id, name, { rev: _rev });
  }

  /** Throws unless a write stays within the limits. */
  async #writable(d: Doc, replicated: boolean): Promise<void> {
    if (!this.#has(d._id)) throw outside();
    const seen = await this.#leaves(d._id), fits = this.#fits(d);
    // A stub takes what any document of the database has under its digest.
    for (const [name, a] of Object.entries((d._attachments ?? {}) as Record<string, any>)) {
      if (!a?.stub || seen.some(l => (l._attachments as any)?.[name]?.digest === a.digest)) continue;
      throw new CouchError(412, 'missing_stub', `Invalid attachment stub in ${d._id} for ${name}`);
    }
    if (!this.limits.filter) return;
    const bare = Object.keys(d).every(k => k.startsWith('_') && k !== '_attachments');
    if (!fits && !(d._deleted && bare && seen.length)) throw outside();
    if (!replicated && d._rev && !seen.some(l => l._rev === d._rev)) throw new CouchError(409, 'conflict', 'Document update conflict.');
    const all: { ok?: Leaf }[] = await this.db.get(d._id, { open_revs: 'all', revs: true }).catch(() => []);
    const hidden = all.flatMap(r => r.ok && !seen.some(l => l._rev === r.ok!._rev) ? [r.ok] : []);
    if (!seen.length && hidden.some(l => !l._deleted) && (replicated || !d._rev)) throw outside();
    const revisions = d._revisions as Leaf['_revisions'] | undefined;
    if (replicated && revisions && hidden.some(l => descends({ ...d, _revisions: revisions } as Leaf, l._rev))) throw outside();
  }

  async put(doc: Doc, o: object = {}): Promise<{ ok: boolean; id: string; rev: string }> {
    if (!isLocal(doc._id)) await this.#writable(doc, false);
    return this.db.put(doc, o);
  }

  async post(doc: object): Promise<{ ok: boolean; id: string; rev: string }> {
    return this.put({ ...doc, _id: (doc as Doc)._id ?? crypto.randomUUID() });
  }

  async remove(id: string, rev: string): Promise<{ ok: boolean; id: string; rev: string }> {
    if (!isLocal(id)) await this.#revision(id, rev);
    return this.db.remove(id, rev);
  }

  async bulkDocs(docs: Doc[], o: any = {}): Promise<any[]> {
    const refused = await Promise.all(docs.map(d => this.#writable(d, o.new_edits === false).catch(e => e as CouchError)));
    const written = await this.db.bulkDocs(docs.filter((_, i) => !refused[i]), o);
    const failed = (d: Doc, e: CouchError) => ({ id: d._id, rev: d._rev, error: true, status: e.status, name: e.name, reason: e.reason });
    if (o.new_edits === false) return [...docs.flatMap((d, i) => refused[i] ? [failed(d, refused[i])] : []), ...written];
    let next = 0;
    return docs.map((d, i) => refused[i] ? failed(d, refused[i]) : written[next++]);
  }

  async putAttachment(id: string, name: string, rev: string | undefined, data: unknown, type: string): Promise<object> {
    if (rev === undefined) await this.#writable({ _id: id }, false);
    else await this.#revision(id, rev);
    return this.db.putAttachment(id, name, rev, data, type);
  }

  async removeAttachment(id: string, name: string, rev: string): Promise<object> {
    await this.#revision(id, rev);
    return this.db.removeAttachment(id, name, rev);
  }
}

/** Takes some members of a document, as _find does: "a.b" is one within another. */
function pick(doc: Doc, fields: string[]): object {
  const out = Object.create(null); // the names come from a peer
  for (const f of fields) {
    const path = f.split('.'), last = path.pop()!;
    let from: any = doc, to = out;
    for (const p of path) from = own(from, p);
    if (own(from, last) === undefined) continue;
    for (const p of path) to = to[p] ??= Object.create(null);
    to[last] = from[last];
  }
  return out;
}

const own = (o: any, name: string): unknown => o !== null && typeof o === 'object' && Object.hasOwn(o, name) ? o[name] : undefined;

/** What openers see of a database: all of it without limits. */
export const limited = (db: Pouch, l: Limits): Pouch => l.filter || l.docIds ? new FilteredPouch(db, l) : db;
