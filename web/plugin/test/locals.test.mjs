// The _local documents that peers leave with a share are bounded.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { couchHandler } from '../lib/couch.js';
import { utf8 } from '../lib/encoding.js';
import { Locals } from '../lib/locals.js';
import { pouch } from './support.mjs';

/** A new page over a database: nothing of the last one's memory. */
const page = db => Locals.of({ get: db.get.bind(db), put: db.put.bind(db), remove: db.remove.bind(db) });
const doc = (n = 10) => utf8(JSON.stringify({ x: 'y'.repeat(n) }));
const there = (db, peer, id) => db.get(`_local/peer:${peer}:${id}`).then(() => true, () => false);

test('a peer has so many, the least used go, and a restart changes nothing', async () => {
  const db = pouch();
  let locals = page(db);
  for (let i = 0; i < 256; i++) await locals.put('eve', `c${i}`, doc());
  await locals.get('eve', 'c0');
  await locals.put('bob', 'mine', doc());
  locals = page(db);
  await locals.get('eve', 'c2');
  for (let i = 256; i < 266; i++) await locals.put('eve', `c${i}`, doc());
  const left = [];
  for (let i = 0; i < 266; i++) if (await there(db, 'eve', `c${i}`)) left.push(i);
  assert.equal(left.length, 256);
  assert.ok(left.includes(2) && left.includes(265) && !left.includes(1) && !left.includes(3), String(left.slice(0, 9)));
  assert.ok(await there(db, 'bob', 'mine'));
  const big = doc(60_000);
  for (let i = 0; i < 50; i++) await locals.put('eve', `big${i}`, big);
  const bytes = (await db.get('_local/loveseat-locals')).used.filter(([k]) => k.includes(':eve:')).reduce((n, [, [, b]]) => n + b, 0);
  assert.ok(bytes <= 2 << 20, `${bytes} bytes`);
  assert.ok(await there(db, 'bob', 'mine'));
});

test('ever new keys leave no more than a total, the least used go', { timeout: 120_000 }, async () => {
  const db = pouch(), locals = page(db), big = doc(60_000);
  for (let i = 0; i < 600; i++) await locals.put(`eve${i}`, 'c', big);
  const { used } = await db.get('_local/loveseat-locals');
  assert.ok(used.length > 500 && used.reduce((n, [, [, b]]) => n + b, 0) <= 32 << 20, `${used.length}`);
  assert.deepEqual([await there(db, 'eve0', 'c'), await there(db, 'eve599', 'c')], [false, true]);
  assert.equal((await Promise.all(used.map(([k]) => db.get(k)))).length, used.length);
});

test('two pages of one browser keep one list', async () => {
  const db = pouch(), [a, b] = [page(db), page(db)];
  await Promise.all(Array.from({ length: 10 }, (_, i) => [a.put('p', `a${i}`, doc()), b.put('q', `b${i}`, doc())]).flat());
  assert.equal((await db.get('_local/loveseat-locals')).used.length, 20);
  await a.remove('p', 'a0');
  await assert.rejects(a.get('p', 'a0'), { status: 404 });
  assert.equal((await db.get('_local/loveseat-locals')).used.length, 19);
});

test('what is too long or no document is refused', async () => {
  const locals = page(pouch());
  assert.throws(() => locals.put('p', 'x', doc(70_000)), { status: 413 });
  assert.throws(() => locals.put('p', 'x'.repeat(2000), doc()), { status: 400 });
  for (const bad of ['null', '[]', '5', '{', '['.repeat(60_000)]) assert.throws(() => locals.put('p', 'x', utf8(bad)), e => e.status === 400 || e.status === 413);
  const handle = couchHandler(pouch(), { name: 'db', uuid: 'u', readOnly: true, peer: 'p' });
  assert.equal((await handle(new Request('http://x/db/_local/x', { method: 'PUT', body: 'null' }))).status, 400);
});
