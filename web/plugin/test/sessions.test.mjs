import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Sessions } from '../lib/sessions.js';

const signal = (seq, from = 'a', session = 's') => ({ from, to: 'me', session, kind: String(seq), payload: new Uint8Array() });
const keys = { sign: 'x', seal: 'y' };

test('signals are delivered once and in their order, whatever that of their arrival', () => {
  const s = new Sessions(), got = [];
  const accept = (seq, from) => got.push(...s.accept(signal(seq, from), seq, keys, 0).map(x => x.from + x.kind));
  for (const seq of [2, 1]) accept(seq);
  assert.deepEqual(got, []);
  for (const [seq, from] of [[0], [4], [0, 'b'], [3]]) accept(seq, from);
  assert.deepEqual(got, ['a0', 'a1', 'a2', 'b0', 'a3', 'a4']);
  for (const seq of [0, 3]) assert.throws(() => accept(seq), /used before/);
  accept(6);
  assert.throws(() => accept(6), /used before/);
  assert.throws(() => accept(5 + 64), /too far ahead/);
  assert.equal(s.keysOf('a', 's'), keys);
  assert.equal(s.keysOf('a', 'other'), undefined);
});

test('our signals are numbered by recipient and session', () => {
  const s = new Sessions();
  assert.deepEqual([s.number('a', 's', 0), s.number('a', 's', 0), s.number('a', 't', 0), s.number('b', 's', 0)], [0, 1, 0, 0]);
});

test('idle sessions are forgotten, and there are not too many', () => {
  const s = new Sessions(), hour = 3_600_000;
  s.accept(signal(0), 0, keys, 0);
  s.number('a', 's', 0);
  s.forget(hour);
  assert.throws(() => s.accept(signal(0), 0, keys, hour), /used before/);
  s.forget(2 * hour + 1);
  assert.equal(s.accept(signal(0), 0, keys, 2 * hour).length, 1);
  assert.equal(s.number('a', 's', 2 * hour), 0);
  for (let i = 1; i < 10_000; i++) s.accept(signal(0, `x${i}`), 0, keys, 2 * hour);
  assert.throws(() => s.accept(signal(0, 'more'), 0, keys, 2 * hour), /too many/);
  assert.equal(s.accept(signal(0, 'more'), 0, keys, 3 * hour).length, 1); // the idle ones make room
});
