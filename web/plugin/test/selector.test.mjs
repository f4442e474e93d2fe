// Selectors and regular expressions of peers: what they match, and what they may cost.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { couchHandler } from '../lib/couch.js';
import { Regex } from '../lib/regex.js';
import { compile, Work } from '../lib/selector.js';
import { pouch } from './support.mjs';

const free = { spend() {} };
const found = (pattern, text) => new Regex(pattern).test(text, free);
const matches = (selector, doc) => compile(selector)(doc, new Work());

test('regular expressions find what they do in RE2', () => {
  for (const [pattern, yes, no] of [
    ['abc', ['abc', 'xabcx'], ['ab', '']], ['^a.c$', ['abc', 'a☃c', 'a😀c'], ['a\nc', 'abcd']], ['a|b|', ['', 'c'], []], ['^(a|bc)+$', ['abca'], ['ab', '']],
    ['^a{2,3}$', ['aa', 'aaa'], ['a', 'aaaa']], ['^a{2,}?$', ['aaaa'], ['a']], ['a{,2}', ['a{,2}'], ['aa']], ['^[a-c\\]x-]+$', ['ab]-x'], ['d']], ['^[^a-c]$', ['d', '\n'], ['a']],
    ['(?i)^straße$', ['STRAßE'], ['strase']], ['^(?i:a)b$', ['Ab'], ['AB']], ['(?s)^a.b$', ['a\nb'], []], ['(?m)^b$', ['a\nb\nc'], ['ab']], ['a(?i)b', ['aB'], ['AB']],
    ['\\bword\\b', ['a word.'], ['words']], ['\\Bx', ['ax'], ['x']], ['^\\d+\\.\\w\\s\\S$', ['12.a b'], ['12ca b']], ['^[[:alpha:]][[:^digit:]]$', ['ax'], ['a1', '1a']],
    ['^\\x41\\x{1F600}\\t$', ['A😀\t'], ['a']], ['\\Aa\\z', ['a'], ['a\n']], ['(?P<name>a)(?<b>c)', ['ac'], ['a']], ['[\\D]', ['a'], ['1']], ['^(?:(?:a*)*)*$', ['aaa', ''], ['b']], ['$^', [''], ['a']], ['[]a]', [']', 'a'], ['b']],
  ]) {
    for (const t of yes) assert.ok(found(pattern, t), `${pattern} in ${t}`);
    for (const t of no) assert.ok(!found(pattern, t), `${pattern} not in ${t}`);
  }
});

test('regular expressions find what JavaScript finds, where both know the syntax', () => {
  let seed = 7;
  const random = n => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % n, pick = l => l[random(l.length)];
  const make = depth => {
    const atom = () => depth > 0 && random(3) === 0 ? `(${make(depth - 1)})` : pick(['a', 'b', '.', '[ab]', '[^a]', '\\b', '^', '$', '\\w', 'c']);
    const piece = () => { const a = atom(); return /^(\\b|\^|\$)$/.test(a) ? a : a + pick(['', '', '', '*', '+', '?', '{1,2}', '{2}', '*?']); };
    return Array.from({ length: 1 + random(3) }, () => Array.from({ length: 1 + random(3) }, piece).join('')).join('|');
  };
  for (let i = 0; i < 5000; i++) {
    const pattern = make(2), text = Array.from({ length: random(7) }, () => pick(['a', 'b', 'c', ' '])).join('');
    assert.equal(found(pattern, text), new RegExp(pattern).test(text), `${pattern} in ${JSON.stringify(text)}`);
  }
});

test('what takes JavaScript forever takes time in proportion', () => {
  const begin = Date.now();
  for (const pattern of ['^(a+)+$', '^(a|a)*$', '^(a|aa)+$', '(x+x+)+y', '^((a*)*)*$', '(.*a){12}b', '(a?){25}a{25}$', '([a-zA-Z]+)*$x']) {
    assert.equal(found(pattern, 'a'.repeat(2000) + '!'), false, pattern);
  }
  assert.ok(Date.now() - begin < 10_000);
});

test('what is not supported or too large is refused with 400 and a sentence', () => {
  for (const pattern of ['(?=a)', '(?<!a)b', '(a)\\1', '\\p{L}', '\\Qa\\E', '(', ')', 'a)', '[', '[b-a]', '*', 'a**', '\\', 'a{2000}', '(a{500}){500}', '((((a{9}){9}){9}){9})', 'a{3,2}', '\\x{110000}', '[[:nope:]]', 'x'.repeat(1001), '('.repeat(500)]) {
    assert.throws(() => new Regex(pattern), e => e.status === 400 && /^(This|A) \$regex .*\.$/.test(e.reason), pattern);
  }
  assert.ok(found('(((((){1000}){1000}){1000}){1000}){1000}', 'x')); // and what is nothing, however often, takes no time
});

test('selectors match as in CouchDB', () => {
  const doc = { _id: 'x', n: 3, s: 'text', o: { a: [1, { b: 'c' }], 'd.e': 1 }, l: ['p', 'q', [1]], z: null, t: true };
  for (const [selector, want] of [
    [{}, true], [{ n: 3 }, true], [{ n: { $gt: 2, $lte: 3 } }, true], [{ n: { $lt: 3 } }, false], [{ s: { $gt: 5 } }, true], [{ z: null }, true], [{ none: null }, false], [{ none: { $exists: false } }, true], [{ z: { $exists: true } }, true],
    [{ 'o.a.0': 1 }, true], [{ o: { a: { 1: { b: 'c' } } } }, true], [{ 'o.d\\.e': 1 }, true], [{ 'o.d.e': 1 }, false], [{ $or: [{ n: 1 }, { s: 'text' }] }, true], [{ $nor: [{ n: 1 }, { s: 'text' }] }, false], [{ $not: { n: 1 } }, true], [{ $not: { none: 1 } }, false],
    [{ n: { $not: { $eq: 3 } } }, false], [{ n: { $in: [1, 3] } }, true], [{ l: { $in: ['q'] } }, true], [{ n: { $nin: [3] } }, false], [{ l: { $all: ['q', 'p'] } }, true], [{ l: { $all: ['q', 'x'] } }, false], [{ l: { $all: [['p', 'q', [1]]] } }, true], [{ l: { $size: 3 } }, true],
    [{ n: { $mod: [2, 1] } }, true], [{ s: { $regex: '^te' } }, true], [{ n: { $regex: '3' } }, false], [{ s: { $beginsWith: 'te' } }, true], [{ t: { $type: 'boolean' } }, true], [{ z: { $type: 'null' } }, true],
    [{ l: { $elemMatch: { $eq: 'q' } } }, true], [{ 'o.a': { $elemMatch: { b: 'c' } } }, true], [{ l: { $allMatch: { $type: 'string' } } }, false], [{ o: { $keyMapMatch: { $eq: 'a' } } }, true], [{ o: { $eq: { 'd.e': 1, a: [1, { b: 'c' }] } } }, true],
    [{ __proto__x: 1 }, false], [{ constructor: { $exists: true } }, false], [{ 's.length': { $exists: true } }, false], [{ 'l.length': { $exists: true } }, false],
  ]) assert.equal(matches(selector, doc), want, JSON.stringify(selector));
  for (const bad of [null, 3, [], { $and: 1 }, { $gt: 1 }, { n: { $nope: 1 } }, { n: { $toString: 1 } }, { n: { $in: 1 } }, { n: { $mod: [0, 1] } }, { s: { $regex: 1 } }, { n: { $exists: 1 } }, { n: { $size: -1 } }, { $not: 1 }]) {
    assert.throws(() => compile(bad), { status: 400 }, JSON.stringify(bad));
  }
});

test('what a selector may hold and cost is bounded', () => {
  const nested = (n, s = { a: 1 }) => { for (let i = 0; i < n; i++) s = { $and: [s] }; return s; };
  for (const bad of [nested(60), { $or: Array(600).fill({ a: 1 }) }, { a: { $in: Array(10_001).fill(1) } }, { $and: [{ a: { $all: Array(6000).fill(1) } }, { a: { $nin: Array(6000).fill(1) } }] }, { ['a.'.repeat(600)]: 1 }]) {
    assert.throws(() => compile(bad), { status: 400 });
  }
  const list = Array.from({ length: 10_000 }, (_, i) => i), doc = { a: Array.from({ length: 10_000 }, (_, i) => -i - 1) }, begin = Date.now();
  assert.equal(matches({ a: { $in: list } }, doc), false);
  assert.equal(matches({ a: { $all: list } }, doc), false);
  assert.ok(Date.now() - begin < 2000); // comparing each with each takes a hundred million steps
  const costly = Array.from({ length: 100 }, () => ({ a: { $regex: '(a|b|ab)*c' } }));
  assert.throws(() => matches({ $or: costly }, { a: 'ab'.repeat(20_000) }), { status: 400, reason: 'This selector takes too much work.' });
});

test('a peer whose query takes long does not stop the page, and is told so', async () => {
  const db = pouch(), ask = peer => (path, body) => couchHandler(db, { name: 'db', uuid: 'u', readOnly: false, peer })(new Request(`http://x/db/${path}`, { method: 'POST', body: JSON.stringify(body) }));
  await db.bulkDocs(Array.from({ length: 60 }, (_, i) => ({ _id: `d${i}`, text: 'ab'.repeat(200_000) })));
  let turns = 0; // that others had
  const clock = setInterval(() => turns++, 1);
  const selector = { text: { $regex: '(a|b|ab)*c' } };
  const answers = await Promise.all([ask('eve')('_find', { selector }), ask('eve')('_changes?filter=_selector', { selector })]);
  clearInterval(clock);
  console.log(turns);
  for (const a of answers) {
    assert.equal(a.status, 400);
    assert.equal((await a.json()).reason, 'This selector takes too much work.');
  }
  assert.ok(turns > 20, `${turns} turns`);
});

test('JSON of a peer is measured before it is read', async () => {
  const db = pouch(), ask = (path, body) => couchHandler(db, { name: 'db', uuid: 'u', readOnly: false, peer: 'eve' })(new Request(`http://x/db/${path}`, { method: 'POST', body }));
  for (const [path, body, status] of [
    ['_find', '['.repeat(100_000), 413], ['_bulk_docs', '{"docs":[' + '[],'.repeat(1_100_000) + '[]]}', 413], ['_bulk_docs', `{"docs":[{"_id":"a","x":${'['.repeat(300)}${']'.repeat(300)}}]}`, 413],
    ['_find', `{"selector":{"a":"${'x'.repeat(9 << 20)}"}}`, 413], ['_bulk_docs', `{"docs":[{"_id":"ok","s":"${'[,{\\"'.repeat(1_200_000)}"}]}`, 201], ['_bulk_docs', '{"docs":[{"_id":"', 400], ['_all_docs', '{"keys":5}', 400], ['_all_docs', 'null', 200], ['_revs_diff', '{"a":5}', 400], ['_revs_diff', 'null', 200],
    ['_bulk_get', '{"docs":[null,1,{"id":{}},{"id":"a","rev":{}}]}', 200], ['_changes?filter=_doc_ids', '{"doc_ids":5}', 400], ['_find', '{"selector":{},"limit":-1}', 400], ['_find', '{"selector":{},"sort":[5]}', 400], ['_find', '{"selector":{},"fields":[5]}', 400], ['_find', '5', 400],
  ]) {
    const a = await ask(path, body);
    assert.equal(a.status, status, `${path} ${body.slice(0, 50)}: ${(await a.text()).slice(0, 100)}`);
  }
});
