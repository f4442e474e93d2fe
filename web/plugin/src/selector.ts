// Mango selectors of peers: Go's internal/mango. PouchDB's own are not used: their $regex is JavaScript's, and their
// work knows no bounds. What a selector may hold is bounded when it is read, what it costs while it is matched.
import { canonicalJSON } from './encoding.js';
import { badRequest, CouchError } from './errors.js';
import { Regex } from './regex.js';

const maxDepth = 50, maxOperators = 500, maxOperands = 10_000, maxPaths = 500;
const maxWork = 40_000_000, maxMatch = 2_000_000; // steps of a query, and on one document
const turn = 10; // ms: then others have theirs

type Test = (v: unknown, work: Work) => boolean;

const invalid = (name: string, reason: string) => new CouchError(400, name, reason);
const badArg = (op: string, arg: unknown) => invalid('bad_arg', `Bad argument for operator ${op}: ${JSON.stringify(arg)?.slice(0, 200)}`);
const isObject = (v: unknown): v is Record<string, unknown> => v !== null && typeof v === 'object' && !Array.isArray(v);

/** What a query has cost so far. */
export class Work {
  #query = 0;
  #match = 0;
  #since = Date.now();

  spend(steps: number): void {
    this.#match += steps;
    if (this.#match > maxMatch || this.#query + this.#match > maxWork) throw badRequest('This selector takes too much work.');
  }

  /** Begins with another document; now and then others have their turn. */
  async next(): Promise<void> {
    this.#query += this.#match + 1;
    this.#match = 0;
    if (Date.now() - this.#since < turn) return;
    await new Promise(r => setTimeout(r));
    this.#since = Date.now();
  }
}

const kinds = ['null', 'boolean', 'number', 'string', 'array', 'object'];
const kind = (v: unknown): number => v == null ? 0 : Array.isArray(v) ? 4 : kinds.indexOf(typeof v);

/** Orders JSON values as CouchDB's views do, but strings by their UTF-16 units, as PouchDB. */
export function compare(a: unknown, b: unknown, work: Work): number {
  work.spend(1);
  const k = kind(a), other = kind(b);
  if (k !== other) return k - other;
  if (k === 4) return compareLists(a as unknown[], b as unknown[], work);
  if (k === 5) return compareLists(members(a as object, work), members(b as object, work), work);
  return k === 0 || a === b ? 0 : (a as string) < (b as string) ? -1 : 1;
}

/** The names and values of an object, by name. */
function members(o: object, work: Work): unknown[] {
  const all = Object.entries(o).sort(byName).flat();
  work.spend(all.length);
  return all;
}

const byName = ([a]: [string, unknown], [b]: [string, unknown]): number => a < b ? -1 : 1;

function compareLists(a: unknown[], b: unknown[], work: Work): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const c = compare(a[i], b[i], work);
    if (c) return c;
  }
  return a.length - b.length;
}

/** A path of members: "a.b" is one within another, "\." is a dot. */
export const splitPath = (path: string): string[] => path.split(/(?<!\\)\./).map(p => p.replaceAll('\\.', '.'));

/** Returns the value at a path, undefined if there is none. */
export function lookup(v: unknown, path: string[]): unknown {
  for (const name of path) {
    if (v === null || typeof v !== 'object' || Array.isArray(v) && !/^\d{1,9}$/.test(name) || !Object.hasOwn(v, name)) return undefined;
    v = (v as Record<string, unknown>)[name];
  }
  return v;
}

const comparison = (holds: (c: number) => boolean) => (_: string, arg: unknown): Test => (v, work) => holds(compare(v, arg, work));

/** A value as text by which it can be found. */
function spelled(v: unknown, work: Work): string {
  const s = canonicalJSON(v);
  work.spend(1 + s.length / 16);
  return s;
}

/** A list as a set, which is asked in constant time. */
function setOf(op: string, arg: unknown): (v: unknown, work: Work) => boolean {
  if (!Array.isArray(arg)) throw badArg(op, arg);
  const set = new Set(arg.map(canonicalJSON));
  return (v, work) => set.has(spelled(v, work));
}

function memberOf(op: string, arg: unknown): Test {
  const has = setOf(op, arg);
  return (v, work) => Array.isArray(v) ? v.some(e => has(e, work)) : has(v, work);
}

function hasAll(op: string, arg: unknown): Test {
  if (!Array.isArray(arg)) throw badArg(op, arg);
  const want = [...new Set(arg.map(canonicalJSON))], whole = arg.length === 1 && Array.isArray(arg[0]);
  return (v, work) => {
    if (!Array.isArray(v) || !want.length) return false;
    const have = new Set(v.map(e => spelled(e, work)));
    work.spend(want.length);
    return whole && spelled(v, work) === want[0] || want.every(w => have.has(w));
  };
}

function modulo(op: string, arg: unknown): Test {
  const [divisor, remainder] = Array.isArray(arg) && arg.length === 2 ? arg : [];
  if (!Number.isInteger(divisor) || !Number.isInteger(remainder) || !divisor) throw badArg(op, arg);
  return v => Number.isInteger(v) && (v as number) % divisor === remainder;
}

function text(op: string, arg: unknown): string {
  if (typeof arg !== 'string') throw badArg(op, arg);
  return arg;
}

const operators: Record<string, (op: string, arg: unknown) => Test> = {
  $lt: comparison(c => c < 0), $lte: comparison(c => c <= 0), $eq: comparison(c => c === 0),
  $ne: comparison(c => c !== 0), $gte: comparison(c => c >= 0), $gt: comparison(c => c > 0),
  $type: (op, arg) => (name => v => kinds[kind(v)] === name)(text(op, arg)),
  $in: memberOf,
  $nin: (op, arg) => (has => (v, work) => !has(v, work))(memberOf(op, arg)),
  $size: (op, arg) => {
    if (!Number.isInteger(arg) || (arg as number) < 0) throw badArg(op, arg);
    return v => Array.isArray(v) && v.length === arg;
  },
  $mod: modulo,
  $regex: (op, arg) => (r => (v, work) => typeof v === 'string' && r.test(v, work))(new Regex(text(op, arg))),
  $beginsWith: (op, arg) => (s => v => typeof v === 'string' && v.startsWith(s))(text(op, arg)),
  $all: hasAll,
};

const elements: Record<string, (v: unknown, test: Test, work: Work) => boolean> = {
  $elemMatch: (v, test, work) => Array.isArray(v) && v.some(e => test(e, work)),
  $allMatch: (v, test, work) => Array.isArray(v) && v.length > 0 && v.every(e => test(e, work)),
  $keyMapMatch: (v, test, work) => isObject(v) && Object.keys(v).some(k => test(k, work)),
};

/** Turns selectors into tests. Negations go down to the operators, as in CouchDB: {"$not":{"a":1}} means {"a":{"$ne":1}}. */
class Compiler {
  #operators = 0;
  #operands = 0;

  object(sel: unknown, at: string[], negate: boolean, bare: boolean, depth: number): Test {
    if (!isObject(sel)) throw invalid('invalid_selector_json', 'Selector must be a JSON object');
    if (depth > maxDepth) throw invalid('invalid_selector', `A selector is limited to ${maxDepth} levels.`);
    return combine(Object.entries(sel).map(([key, arg]) => this.#member(key, arg, at, negate, bare, depth)), negate);
  }

  #member(key: string, arg: unknown, at: string[], negate: boolean, bare: boolean, depth: number): Test {
    if (key === '$and' || key === '$or' || key === '$nor') {
      if (!Array.isArray(arg)) throw badArg(key, arg);
      this.#count(key, arg);
      const not = (key === '$nor') !== negate;
      return combine(arg.map(s => this.object(s, at, not, bare, depth + 1)), (key !== '$and') !== not);
    }
    if (key === '$not') return this.object(arg, at, !negate, bare, depth + 1);
    if (key.startsWith('$')) return this.#operator(key, arg, at, negate, bare, depth);
    const path = [...at, ...splitPath(key)];
    if (path.length > maxPaths) throw invalid('invalid_selector', `A selector is limited to ${maxPaths} levels.`);
    return isObject(arg) && Object.keys(arg).length ? this.object(arg, path, negate, bare, depth + 1) : this.#operator('$eq', arg, path, negate, bare, depth);
  }

  #count(op: string, arg: unknown): void {
    if (++this.#operators > maxOperators) throw invalid('invalid_selector', `A selector is limited to ${maxOperators} operators.`);
    this.#operands += Array.isArray(arg) ? arg.length : 0;
    if (this.#operands > maxOperands) throw badArg(op, `more than ${maxOperands} operands`);
  }

  #operator(op: string, arg: unknown, at: string[], negate: boolean, bare: boolean, depth: number): Test {
    this.#count(op, arg);
    if (!at.length && !bare) throw invalid('invalid_selector', 'One or more conditions is missing a field name.');
    if (op === '$exists') {
      if (typeof arg !== 'boolean') throw badArg(op, arg);
      return v => (lookup(v, at) !== undefined) === (arg !== negate);
    }
    const over = Object.hasOwn(elements, op) && elements[op];
    if (!over && !Object.hasOwn(operators, op)) throw invalid('invalid_operator', `Invalid operator: ${op}`);
    const inner = over && this.object(arg, [], false, true, depth + 1);
    const test: Test = inner ? (v, work) => over(v, inner, work) : operators[op]!(op, arg);
    return (v, work) => {
      work.spend(1 + at.length);
      const found = lookup(v, at);
      return found !== undefined && test(found, work) !== negate;
    };
  }
}

/** All tests, or any of them. Of none both are true. */
const combine = (tests: Test[], any: boolean): Test => (v, work) => !tests.length || (any ? tests.some(t => t(v, work)) : tests.every(t => t(v, work)));

/** Reads a selector. Throws 400. */
export const compile = (selector: unknown): Test => new Compiler().object(selector, [], false, false, 0);
