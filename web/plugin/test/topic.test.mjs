// Topics: databases that replicate live with each other.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { neighbours } from '../lib/topic.js';
import { eventually, hub, join, pouch } from './support.mjs';

const ids = async db => (await db.allDocs()).rows.map(r => r.id).join();

test('three members converge, also with who comes later, and one that leaves gets nothing more', async t => {
  const h = hub(), peers = await Promise.all([1, 2, 3].map(() => join(t, h))), dbs = peers.map(() => pouch());
  await dbs[0].bulkDocs([{ _id: '_design/x', views: {} }, { _id: 'a' }]);
  await dbs[1].put({ _id: 'b' });
  const a = await peers[0].join('album', dbs[0]), b = await peers[1].join('album', dbs[1]);
  await Promise.all([a.awaitFirstPeer(), b.awaitFirstPeer()]);
  await eventually(async () => await ids(dbs[1]) === 'a,b');
  const c = await peers[2].join('album', dbs[2]);
  await dbs[2].put({ _id: 'c' });
  await eventually(async () => await ids(dbs[2]) === 'a,b,c' && await ids(dbs[1]) === 'a,b,c' && await ids(dbs[0]) === '_design/x,a,b,c');
  await Promise.all([a, b, c].map(x => x.awaitInSync()));
  assert.deepEqual(a.peers().map(p => p.state), ['in-sync', 'in-sync']);
  await c.cancel();
  await eventually(() => a.peers().length === 1 && b.peers().length === 1);
  await dbs[0].put({ _id: 'd' });
  await eventually(async () => await ids(dbs[1]) === 'a,b,c,d');
  assert.equal(await ids(dbs[2]), 'a,b,c');
  await assert.rejects(peers[0].join('album', dbs[0]), { status: 412 });
  const plain = await peers[0].share(dbs[0]); // and shared besides
  assert.notEqual(plain.id, a.share.id);
  await assert.rejects(peers[0].join('', dbs[0]), { status: 400 });
  await a.cancel();
  await b.cancel();
});

test('accept and direction', async t => {
  const h = hub(), [alice, bob, eve] = await Promise.all([1, 2, 3].map(() => join(t, h))), [x, y, z] = [pouch(), pouch(), pouch()], errors = [];
  await Promise.all([[x, 'x'], [y, 'y'], [z, 'z']].map(([db, _id]) => db.put({ _id })));
  const a = await alice.join('t', x, { accept: p => p !== eve.id, direction: p => p === bob.id ? 'push' : 'both', onError: e => errors.push(e.peer) });
  await bob.join('t', y);
  const e = await eve.join('t', z);
  await eventually(async () => await ids(y) === 'x,y,z');
  await eventually(() => e.peers().find(p => p.share.peer === alice.id)?.state === 'refused');
  assert.equal(await ids(x), 'x');
  await eventually(() => a.peers().map(p => `${p.share.peer} ${p.state}`).sort().join() === [`${bob.id} sending`, `${eve.id} refused`].sort().join());
  await eventually(() => errors.includes(eve.id));
});

test('the neighbours in a large topic: as many as the limit, mutual, one net, the same as in Go', async () => {
  const members = Array.from({ length: 40 }, (_, i) => `member${i}`), of = new Map();
  for (const m of members) of.set(m, await neighbours('t', m, members.filter(o => o !== m), 8, () => false));
  for (const m of members) {
    assert.ok(of.get(m).size <= 8);
    for (const o of of.get(m)) assert.ok(of.get(o).has(m));
  }
  const reached = new Set(['member0']);
  for (const m of reached) for (const o of of.get(m)) reached.add(o);
  assert.equal(reached.size, 40);
  // TestNeighboursVector in Go's share/pool_ring_test.go expects the same.
  assert.equal([...of.get('member0')].sort().join(), 'member13,member15,member16,member17,member26,member3,member6');
  const around = await neighbours('t', 'member0', members.slice(1), 2, id => of.get('member0').has(id));
  assert.ok(around.size > 2);
});
