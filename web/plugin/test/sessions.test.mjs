import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crowd } from '../lib/crowd.js';
import { Sessions } from '../lib/sessions.js';

/** Those of a page that shares. */
const shared = () => Object.assign(new Sessions(), { makeRoom: crowd });

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

test('idle sessions are forgotten', () => {
  const s = new Sessions(), hour = 3_600_000;
  s.accept(signal(0), 0, keys, 0);
  s.number('a', 's', 0);
  s.forget(hour);
  assert.throws(() => s.accept(signal(0), 0, keys, hour), /used before/);
  s.forget(2 * hour + 1);
  assert.equal(s.accept(signal(0), 0, keys, 2 * hour).length, 1);
  assert.equal(s.number('a', 's', 2 * hour), 0);
});

test('a sender of too many sessions loses its own oldest ones, and no others', () => {
  const s = shared();
  s.accept(signal(0, 'bob.1'), 0, keys, 0);
  for (let i = 0; i < 1100; i++) s.accept(signal(0, `eve.${i}`), 0, keys, 1 + i);
  assert.throws(() => s.accept(signal(0, 'bob.1'), 0, keys, 2000), /used before/);
  assert.throws(() => s.accept(signal(0, 'eve.1099'), 0, keys, 2000), /used before/);
  assert.equal(s.keysOf('eve.0', 's'), undefined);
  assert.equal(s.keysOf('eve.100', 's'), keys);
});

test('many senders together keep nobody out: whoever has most gives way', { timeout: 120_000 }, () => {
  const s = shared();
  s.accept(signal(0, 'bob.1'), 0, keys, 0);
  for (let e = 0; e < 10; e++) for (let i = 0; i < 1000; i++) s.accept(signal(0, `eve${e}.${i}`), 0, keys, 1);
  for (let i = 0; i < 50; i++) assert.equal(s.accept(signal(0, `carol${i}.1`), 0, keys, 2).length, 1);
  assert.equal(s.keysOf('bob.1', 's'), keys);
});

test('what waits for earlier signals is bounded, for one sender and for all', () => {
  const s = shared(), big = (from, seq) => ({ ...signal(seq, from), payload: new Uint8Array(64 << 10) });
  s.accept(big('bob.1', 1), 1, keys, 0);
  const full = from => { for (let i = 0; i < 40; i++) try { s.accept(big(`${from}.${i}`, 1), 1, keys, 1); } catch { /* its part is used up */ } };
  for (let e = 0; e < 8; e++) full(`eve${e}`);
  const waiting = ['eve0', 'eve7'].map(e => Array.from({ length: 40 }, (_, i) => s.keysOf(`${e}.${i}`, 's')).filter(Boolean).length);
  assert.ok(waiting.every(n => n <= 16), String(waiting));
  assert.equal(s.accept(big('bob.1', 0), 0, keys, 2).length, 2); // who held little has lost nothing
});

test('a page that shares nothing remembers a few', () => {
  const s = new Sessions();
  for (let i = 0; i < 300; i++) s.accept(signal(0, `eve.${i}`), 0, keys, i);
  assert.deepEqual([s.keysOf('eve.43', 's'), s.keysOf('eve.44', 's')], [undefined, keys]);
});
