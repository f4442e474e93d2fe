// Regular expressions whose matching takes time proportional to text times pattern, whatever the pattern: a Pike VM over
// a Thompson NFA (swtch.com/~rsc/regexp/regexp2.html). JavaScript's own backtrack, so a peer could stop the page with one.
// The syntax is RE2's, which Go's share and CouchDB's share in the main, but for named and Unicode classes, \C, \Q and \pX:
//
//   xy  x|y  x*  x+  x?  x{n,m}, lazy ones too  (x)  (?:x)  (?P<name>x)  (?ims-ims)  (?i:x)  .  [x-z]  [^x]  [[:alpha:]]
//   \d \D \s \S \w \W  \b \B  ^ $ \A \z  \t \n \r \f \v \a  \x41  \x{10FFFF}  \. and other punctuation
import { badRequest } from './errors.js';

const maxPattern = 1000; // UTF-16 units
const maxProgram = 4000; // instructions, after repetitions are written out
const maxRepeat = 1000;
const maxDepth = 100;

/** Counts work. Throws when there is too much of it. */
export interface Meter { spend(steps: number): void }

type Ranges = [number, number][];
type Node =
  | { kind: 'set'; ranges: Ranges }
  | { kind: 'assert'; test: (before: number, after: number) => boolean }
  | { kind: 'cat' | 'alt'; of: Node[] }
  | { kind: 'repeat'; of: Node; min: number; max: number };

const top = 0x10ffff;
const digit: Ranges = [[48, 57]], word: Ranges = [[48, 57], [65, 90], [95, 95], [97, 122]], space: Ranges = [[9, 10], [12, 13], [32, 32]];
const classes: Record<string, Ranges> = { d: digit, w: word, s: space };
const posix: Record<string, Ranges> = {
  alnum: [[48, 57], [65, 90], [97, 122]], alpha: [[65, 90], [97, 122]], ascii: [[0, 127]], blank: [[9, 9], [32, 32]], cntrl: [[0, 31], [127, 127]], digit,
  graph: [[33, 126]], lower: [[97, 122]], print: [[32, 126]], punct: [[33, 47], [58, 64], [91, 96], [123, 126]], space: [[9, 13], [32, 32]], upper: [[65, 90]], word,
  xdigit: [[48, 57], [65, 70], [97, 102]],
};
const controls: Record<string, number> = { t: 9, n: 10, r: 13, f: 12, v: 11, a: 7 };

/** Whether a character is in one of the ranges, which are in order and apart. */
function within(ranges: Ranges, c: number): boolean {
  for (let low = 0, high = ranges.length; low < high;) {
    const mid = (low + high) >> 1, [from, to] = ranges[mid]!;
    if (c < from) high = mid;
    else if (c > to) low = mid + 1;
    else return true;
  }
  return false;
}

/** The same ranges in order and apart. */
function ordered(ranges: Ranges): Ranges {
  const out: Ranges = [];
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = out.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else out.push([from, to]);
  }
  return out;
}

const isWord = (c: number): boolean => within(word, c);

/** All but the ranges. */
function inverted(ranges: Ranges): Ranges {
  const out: Ranges = [];
  let next = 0;
  for (const [from, to] of ordered(ranges)) {
    if (from > next) out.push([next, from - 1]);
    next = to + 1;
  }
  if (next <= top) out.push([next, top]);
  return out;
}

/** The other cases of the letters in ranges. Of long ranges only ASCII's letters have some. */
function folded(ranges: Ranges): Ranges {
  const out: Ranges = [...ranges];
  for (const [from, to] of ranges) {
    for (let c = from; c <= (to - from > 512 ? Math.min(to, 127) : to); c++) {
      const s = String.fromCodePoint(c);
      for (const t of [s.toLowerCase(), s.toUpperCase()]) if (t !== s && [...t].length === 1) out.push([t.codePointAt(0)!, t.codePointAt(0)!]);
    }
  }
  return out;
}

interface Flags { i: boolean; m: boolean; s: boolean }

class Parser {
  #at = 0;
  #depth = 0;
  readonly #pattern: string[];
  #flags: Flags = { i: false, m: false, s: false };

  constructor(pattern: string) {
    this.#pattern = [...pattern];
  }

  #wrong(what: string): Error {
    return badRequest(`This $regex is not supported here: ${what}.`);
  }

  #eat(s: string): boolean {
    if (!s || this.#pattern.slice(this.#at, this.#at + s.length).join('') !== s) return false;
    this.#at += s.length;
    return true;
  }

  get #more(): boolean {
    return this.#at < this.#pattern.length;
  }

  parse(): Node {
    const n = this.#alternatives();
    if (this.#more) throw this.#wrong('a ) without its (');
    return n;
  }

  #alternatives(): Node {
    if (++this.#depth > maxDepth) throw this.#wrong('too many groups within each other');
    const of: Node[] = [this.#sequence()];
    while (this.#eat('|')) of.push(this.#sequence());
    this.#depth--;
    return of.length > 1 ? { kind: 'alt', of } : of[0]!;
  }

  #sequence(): Node {
    const of: Node[] = [];
    while (this.#more && !'|)'.includes(this.#pattern[this.#at]!)) {
      const atom = this.#atom();
      if (atom) of.push(this.#repeated(atom));
    }
    return { kind: 'cat', of };
  }

  /** An atom with the repetition that follows it. */
  #repeated(of: Node): Node {
    const count = this.#count();
    if (!count) return of;
    const [min, max] = count;
    if (max !== Infinity && (max < min || max > maxRepeat) || min > maxRepeat) throw this.#wrong(`a repetition beyond ${maxRepeat}`);
    this.#eat('?'); // lazy: it matches the same texts
    if (this.#count()) throw this.#wrong('a repetition of a repetition');
    return empty(of) ? of : { kind: 'repeat', of, min, max };
  }

  #count(): [number, number] | undefined {
    if (this.#eat('*')) return [0, Infinity];
    if (this.#eat('+')) return [1, Infinity];
    if (this.#eat('?')) return [0, 1];
    const braces = /^\{(\d{1,6})(?:(,)(\d{0,6}))?\}/.exec(this.#pattern.slice(this.#at, this.#at + 16).join(''));
    if (!braces) return undefined;
    this.#at += braces[0].length;
    return [Number(braces[1]), braces[2] ? braces[3] ? Number(braces[3]) : Infinity : Number(braces[1])];
  }

  #set(ranges: Ranges): Node {
    return { kind: 'set', ranges: this.#flags.i ? folded(ranges) : ranges };
  }

  /** One thing that can be repeated; undefined: flags. */
  #atom(): Node | undefined {
    const c = this.#pattern[this.#at++]!, { m, s } = this.#flags;
    switch (c) {
      case '(': return this.#group();
      case '[': return this.#bracket();
      case '\\': return this.#escape();
      case '.': return { kind: 'set', ranges: s ? [[0, top]] : inverted([[10, 10]]) };
      case '^': return { kind: 'assert', test: before => before < 0 || m && before === 10 };
      case '$': return { kind: 'assert', test: (_, after) => after < 0 || m && after === 10 };
      case '*': case '+': case '?': throw this.#wrong(`nothing before ${c}`);
    }
    return this.#set([[c.codePointAt(0)!, c.codePointAt(0)!]]);
  }

  #group(): Node | undefined {
    const before = this.#flags;
    if (this.#eat('?')) {
      const rest = this.#pattern.slice(this.#at, this.#at + 80).join(''), named = /^P?<\w+>/.exec(rest), flags = /^([imsU]*)(?:-([imsU]+))?([:)])/.exec(rest);
      if (!named && !flags) throw this.#wrong('a look-around, or a group that is not known');
      this.#at += [...(named ?? flags!)[0]].length;
      if (flags) {
        const set = (letters: string, on: boolean) => [...letters].map(l => [l, on]);
        this.#flags = { ...before, ...Object.fromEntries([...set(flags[1]!, true), ...set(flags[2] ?? '', false)]) };
        if (flags[3] === ')') return undefined; // for the rest of the group it stands in
      }
    }
    const of = this.#alternatives();
    if (!this.#eat(')')) throw this.#wrong('a ( without its )');
    this.#flags = before;
    return of;
  }

  #escape(): Node {
    const test = { A: (before: number) => before < 0, z: (_: number, after: number) => after < 0, b: (a: number, b: number) => isWord(a) !== isWord(b), B: (a: number, b: number) => isWord(a) === isWord(b) }[this.#pattern[this.#at] ?? ''];
    if (!test) return this.#set(this.#escaped());
    this.#at++;
    return { kind: 'assert', test };
  }

  /** What follows a backslash, in a class or out of one. */
  #escaped(): Ranges {
    const c = this.#pattern[this.#at++];
    if (c === undefined) throw this.#wrong('a \\ at the end');
    if (Object.hasOwn(classes, c)) return classes[c]!;
    if (/[DWS]/.test(c)) return inverted(classes[c.toLowerCase()]!);
    if (Object.hasOwn(controls, c)) return [[controls[c]!, controls[c]!]];
    const hex = c === 'x' && /^(?:([0-9a-f]{2})|\{([0-9a-f]{1,6})\})/i.exec(this.#pattern.slice(this.#at, this.#at + 8).join(''));
    if (hex) {
      const code = parseInt((hex[1] ?? hex[2])!, 16);
      if (code > top) throw this.#wrong('a character that does not exist');
      this.#at += hex[0].length;
      return [[code, code]];
    }
    if (/[0-9a-z]/i.test(c)) throw this.#wrong(`\\${c}`);
    return [[c.codePointAt(0)!, c.codePointAt(0)!]];
  }

  #bracket(): Node {
    const negated = this.#eat('^'), ranges: Ranges = [];
    for (let first = true; first || !this.#eat(']'); first = false) {
      if (!this.#more) throw this.#wrong('a [ without its ]');
      const name = /^\[:(\^?)(\w+):\]/.exec(this.#pattern.slice(this.#at, this.#at + 16).join(''));
      if (name) {
        if (!Object.hasOwn(posix, name[2]!)) throw this.#wrong(name[0]);
        ranges.push(...name[1] ? inverted(posix[name[2]!]!) : posix[name[2]!]!);
        this.#at += name[0].length;
        continue;
      }
      const from = this.#member();
      if (this.#pattern[this.#at] !== '-' || (this.#pattern[this.#at + 1] ?? ']') === ']') {
        ranges.push(...from);
        continue;
      }
      this.#at++;
      const to = this.#member();
      if (from.length > 1 || to.length > 1 || from[0]![0] !== from[0]![1] || to[0]![0] !== to[0]![1] || from[0]![0] > to[0]![0]) throw this.#wrong('a range that is none');
      ranges.push([from[0]![0], to[0]![0]]);
    }
    const all = this.#flags.i ? folded(ranges) : ranges;
    return { kind: 'set', ranges: negated ? inverted(all) : all };
  }

  #member(): Ranges {
    if (this.#eat('\\')) return this.#escaped();
    const c = this.#pattern[this.#at++]!.codePointAt(0)!;
    return [[c, c]];
  }
}

type Instruction =
  | { op: 'set'; ranges: Ranges }
  | { op: 'assert'; test: (before: number, after: number) => boolean }
  | { op: 'split'; to: number; or: number }
  | { op: 'jump'; to: number }
  | { op: 'match' };

const tooLarge = () => badRequest('This $regex is too large: its repetitions multiply.');

/** Whether a pattern reads nothing and tests nothing: its repetitions would take time and leave no trace. */
const empty = (n: Node): boolean => n.kind === 'repeat' ? empty(n.of) : (n.kind === 'cat' || n.kind === 'alt') && n.of.every(empty);

/** Writes a program for a pattern. */
function compile(node: Node, out: Instruction[]): void {
  if (out.length > maxProgram) throw tooLarge();
  switch (node.kind) {
    case 'set': out.push({ op: 'set', ranges: ordered(node.ranges) }); return;
    case 'assert': out.push({ op: 'assert', test: node.test }); return;
    case 'cat': for (const n of node.of) compile(n, out); return;
    case 'alt': return alternatives(node.of, out);
  }
  for (let i = 0; i < node.min; i++) compile(node.of, out);
  if (node.max === Infinity) {
    const split = { op: 'split' as const, to: out.length + 1, or: 0 }, at = out.push(split) - 1;
    compile(node.of, out);
    out.push({ op: 'jump', to: at });
    split.or = out.length;
    return;
  }
  const splits: { or: number }[] = [];
  for (let i = node.min; i < node.max; i++) {
    const split = { op: 'split' as const, to: out.length + 1, or: 0 };
    out.push(split);
    splits.push(split);
    compile(node.of, out);
  }
  for (const s of splits) s.or = out.length;
}

function alternatives(of: Node[], out: Instruction[]): void {
  const jumps: { to: number }[] = [];
  of.forEach((n, i) => {
    if (i === of.length - 1) return compile(n, out);
    const split = { op: 'split' as const, to: out.length + 1, or: 0 };
    out.push(split);
    compile(n, out);
    const jump = { op: 'jump' as const, to: 0 };
    out.push(jump);
    jumps.push(jump);
    split.or = out.length;
  });
  for (const j of jumps) j.to = out.length;
}

/** A pattern that is looked for in texts. */
export class Regex {
  readonly #program: Instruction[] = [];
  readonly #mark: Uint32Array; // in which round an instruction was last added
  readonly #todo: Int32Array;
  #now: Int32Array; // the sets that may read the next character
  #next: Int32Array;
  #count = 0; // of #next
  #round = 0;

  /** Throws 400 for what is not supported, or too large. */
  constructor(pattern: string) {
    if (pattern.length > maxPattern) throw badRequest(`A $regex is limited to ${maxPattern} characters.`);
    compile(new Parser(pattern).parse(), this.#program);
    this.#program.push({ op: 'match' });
    const size = this.#program.length;
    if (size > maxProgram) throw tooLarge();
    this.#mark = new Uint32Array(size);
    [this.#todo, this.#now, this.#next] = [new Int32Array(2 * size), new Int32Array(size), new Int32Array(size)];
  }

  /** Whether the pattern is found anywhere in a text. Throws if the meter does. */
  test(text: string, meter: Meter): boolean {
    let count = 0;
    for (let at = 0, read = -1; ;) {
      const after = at < text.length ? text.codePointAt(at)! : -1;
      if (++this.#round === 0xffffffff) this.#restart();
      this.#count = 0;
      for (let i = 0; i < count; i++) {
        const t = this.#now[i]!;
        if (within((this.#program[t] as { ranges: Ranges }).ranges, read) && this.#add(t + 1, read, after)) return true;
      }
      if (this.#add(0, read, after)) return true; // it may begin at each place
      meter.spend(1 + this.#count);
      if (after < 0) return false;
      [this.#now, this.#next, count] = [this.#next, this.#now, this.#count];
      read = after;
      at += after > 0xffff ? 2 : 1;
    }
  }

  #restart(): void {
    this.#mark.fill(0);
    this.#round = 1;
  }

  /** Adds the sets that an instruction leads to without reading, between two characters. true: it leads to a match. */
  #add(first: number, before: number, after: number): boolean {
    const todo = this.#todo;
    let n = 1;
    todo[0] = first;
    while (n) {
      const at = todo[--n]!;
      if (this.#mark[at] === this.#round) continue;
      this.#mark[at] = this.#round;
      const i = this.#program[at]!;
      switch (i.op) {
        case 'match': return true;
        case 'set': this.#next[this.#count++] = at; break;
        case 'jump': todo[n++] = i.to; break;
        case 'split': todo[n++] = i.or; todo[n++] = i.to; break;
        case 'assert': if (i.test(before, after)) todo[n++] = at + 1;
      }
    }
    return false;
  }
}
