// _find, as Go's internal/mango: documents are looked through in the order of their ids, and sorted if that is asked for.
import type { Doc } from './documents.js';
import { badRequest, CouchError } from './errors.js';
import type { Matcher, View } from './filter.js';
import { compare, compile, lookup, splitPath, Work } from './selector.js';
import { listed, streamed } from './streamed.js';

const maxFields = 500, maxSorted = 10_000; // documents that are in memory at once

/** A query that has been checked. */
export interface Query { selector: unknown; match: Matcher; fields?: string[]; sort: string[][]; descending: boolean; limit: number; skip: number }

const natural = (v: unknown, name: string, otherwise: number): number => {
  if (v !== undefined && !(Number.isInteger(v) && (v as number) >= 0)) throw new CouchError(400, 'invalid_' + name, `Invalid ${name}.`);
  return v as number ?? otherwise;
};

/** Reads a query. use_index and execution_stats would tell what is the owner's. Throws 400. */
export function readQuery(q: any): Query {
  if (q === null || typeof q !== 'object') throw badRequest('Request body must be a JSON object');
  if (q.selector === undefined) throw new CouchError(400, 'missing_required_key', 'Missing required key: selector');
  const { selector, fields } = q, sort = q.sort ?? [];
  if (fields !== undefined && (!Array.isArray(fields) || fields.length > maxFields || fields.some(f => typeof f !== 'string'))) throw new CouchError(400, 'invalid_fields', 'Invalid fields.');
  if (!Array.isArray(sort) || sort.length > 100) throw new CouchError(400, 'invalid_sort_json', 'Sort must be an array of sort specs.');
  const ways = new Set<string>(), paths = sort.map(s => {
    const [name, way] = typeof s === 'string' ? [s, 'asc'] : Object.entries(s ?? {})[0] ?? [];
    if (typeof name !== 'string' || way !== 'asc' && way !== 'desc') throw new CouchError(400, 'invalid_sort_field', 'Invalid sort field.');
    ways.add(way);
    return splitPath(name);
  });
  if (ways.size > 1) throw new CouchError(400, 'unsupported_mixed_sort', 'Sorts currently only support a single direction for all fields.');
  return { selector, match: compile(selector), fields: fields?.length ? fields : undefined, sort: paths, descending: ways.has('desc'), limit: natural(q.limit, 'limit', 25), skip: natural(q.skip, 'skip', 0) };
}

/** Gives the documents that match, in the order of their ids. */
async function* matches(view: View, q: Query, descending: boolean): AsyncGenerator<Doc> {
  const work = new Work();
  for await (const row of view.rows({ include_docs: true, descending })) {
    const { doc } = row as { doc: Doc };
    await work.next();
    if (!doc._id.startsWith('_design/') && q.match(doc, work)) yield doc;
  }
}

/** Gives them in the order that was asked for. A document without one of the members by which it is sorted is none of them. */
async function* sorted(view: View, q: Query): AsyncGenerator<Doc> {
  if (!q.sort.length || q.sort.length === 1 && q.sort[0]!.join('.') === '_id') return yield* matches(view, q, q.descending);
  const found: { doc: Doc; key: unknown[] }[] = [], work = new Work();
  for await (const doc of matches(view, q, false)) {
    const key = q.sort.map(p => lookup(doc, p));
    if (key.includes(undefined)) continue;
    if (found.push({ doc, key }) > maxSorted) throw badRequest(`At most ${maxSorted} documents can be sorted.`);
  }
  const way = q.descending ? -1 : 1;
  await work.next();
  for (const { doc } of found.sort((a, b) => way * compare(a.key, b.key, free))) yield doc;
}

const free = new class extends Work { // the keys have been paid for by whoever wrote the documents
  override spend(): void {}
};

/** Answers POST /{db}/_find. */
export function find(view: View, q: Query): Promise<Response> {
  const docs = async function* () {
    let { skip, limit: left } = q;
    if (!left) return;
    for await (const doc of sorted(view, q)) {
      if (skip-- > 0) continue;
      yield q.fields ? pick(doc, q.fields) : doc;
      if (!--left) return;
    }
  };
  return streamed(listed('{"docs":[', docs(), '],"bookmark":"nil"}\n'));
}

/** Takes some members of a document: "a.b" is one within another. */
function pick(doc: Doc, fields: string[]): object {
  const out = Object.create(null); // the names come from a peer
  for (const f of fields) {
    const path = splitPath(f), last = path.pop()!, v = lookup(doc, [...path, last]);
    if (v === undefined) continue;
    let to = out;
    for (const p of path) to = to[p] ??= Object.create(null);
    to[last] = v;
  }
  return out;
}
