// Custom requests and broadcasts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verificationCode } from '../lib/code.js';
import { eventually, hub, join, pouch } from './support.mjs';

test('requests: answers, errors, streams, cancel', async t => {
  const h = hub(), [alice, bob] = await Promise.all([1, 2].map(() => join(t, h))), db = pouch();
  let aborted = 0, left = 0;
  const requests = {
    add: ({ a, b }, from) => ({ sum: a + b, from: from.peer }),
    nothing() {},
    fails() { throw Object.assign(new Error('Too warm.'), { status: 418, name: 'teapot', reason: 'Too warm.' }); },
    breaks() { throw new Error('broken'); },
    async *count(n) { for (let i = 0; i < n; i++) yield i; },
    async *halfway() { yield 1; yield { error: 'x', reason: 'y' }; throw new Error('midway'); },
    async *forever() { try { for (let i = 0; ; i++) { yield i; await new Promise(r => setTimeout(r, 1)); } } finally { left++; } },
    wait: (_, from, signal) => new Promise((_, reject) => signal.addEventListener('abort', () => { aborted++; reject(signal.reason); })),
  };
  const c = await (await bob.open((await alice.share(db, { requests })).id)).custom();
  assert.deepEqual(await c.request('add', { a: 1, b: 2 }), { sum: 3, from: bob.id });
  assert.equal(await c.request('nothing'), null);
  await assert.rejects(c.request('fails'), { status: 418, name: 'teapot', reason: 'Too warm.' });
  await assert.rejects(c.request('breaks'), { status: 500, reason: 'broken' });
  for (const name of ['missing', 'toString', '__proto__', 'a/b']) await assert.rejects(c.request(name), { status: 404 });
  await assert.rejects(c.request('add', 'x'.repeat(1 << 20)), { status: 413 });
  assert.match(await c.verificationCode(), /^(\d{5} ){5}\d{5}$/);
  assert.equal(await c.verificationCode(), await alice.served(db).verificationCode(bob.id));
  assert.equal(await verificationCode('a', 'b'), '01844 36416 29127 26957 01574 24177'); // and Go's
  const all = [];
  for await (const v of c.stream('count', 5)) all.push(v);
  assert.deepEqual(all, [0, 1, 2, 3, 4]);
  const some = [];
  await assert.rejects(async () => { for await (const v of c.stream('halfway')) some.push(v); }, { status: 500, reason: 'midway' });
  assert.deepEqual(some, [1, { error: 'x', reason: 'y' }]);
  for await (const v of c.stream('add', { a: 1, b: 1 })) assert.equal(v.sum, 2);
  for await (const v of c.stream('forever')) if (v === 3) break;
  await eventually(() => left === 1);
  const stop = new AbortController(), waiting = c.request('wait', 1, stop.signal);
  waiting.catch(() => {});
  setTimeout(() => stop.abort(), 50);
  await assert.rejects(waiting, { name: 'AbortError' });
  await eventually(() => aborted === 1);
  const many = Array.from({ length: 33 }, () => c.request('wait', 1, stop.signal).catch(e => e.name));
  assert.ok((await Promise.all(many)).every(n => n === 'AbortError'));
});

test('broadcasts reach the sharer and all other openers, from verified peers, until they are revoked', async t => {
  const h = hub(), [alice, bob, carol] = await Promise.all([1, 2, 3].map(() => join(t, h))), db = pouch(), here = [], logs = { bob: [], carol: [] };
  const { id } = await alice.share(db, { onMessage: m => here.push(m) });
  const open = async (p, name) => {
    const c = await (await p.open(id)).custom();
    const end = (async () => { for await (const m of c.messages()) logs[name].push(m); })();
    end.catch(() => {});
    return { c, end };
  };
  const [b, c] = [await open(bob, 'bob'), await open(carol, 'carol')];
  await eventually(async () => {
    alice.served(db).broadcast('ping');
    return logs.bob.length && logs.carol.length;
  });
  logs.bob.length = logs.carol.length = 0;
  await b.c.broadcast({ cursor: [1, 2] });
  await eventually(() => logs.carol.some(m => m.message.cursor));
  assert.deepEqual(logs.carol.at(-1), { from: bob.id, message: { cursor: [1, 2] } });
  assert.deepEqual(here, [{ from: bob.id, message: { cursor: [1, 2] } }]);
  assert.ok(!logs.bob.some(m => m.message.cursor));
  await assert.rejects(b.c.broadcast('x'.repeat(17 << 10)), { status: 413 });
  await alice.served(db).revoke(carol.id);
  await assert.rejects(c.end, { status: 403 });
  const n = logs.carol.length;
  alice.served(db).broadcast('after');
  await eventually(() => logs.bob.some(m => m.message === 'after'));
  assert.equal(logs.carol.length, n);
  await assert.rejects(c.c.broadcast('x'), { status: 403 });
});
