// RxDB's CouchDB replication works with a share through its fetch.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addRxPlugin, createRxDatabase } from 'rxdb/plugins/core';
import { replicateCouchDB } from 'rxdb/plugins/replication-couchdb';
import { getRxStorageMemory } from 'rxdb/plugins/storage-memory';
import { eventually, hub, join, pouch } from './support.mjs';

test('RxDB replicates live, both ways, with a share', async t => {
  assert.ok(addRxPlugin);
  const h = hub(), alice = await join(t, h), bob = await join(t, h), db = pouch('heroes');
  await db.bulkDocs([{ _id: 'spider', power: 1 }, { _id: 'bat', power: 2 }]);
  const share = await alice.share(db), remote = await bob.open(share.id);

  const rx = await createRxDatabase({ name: `rx${process.pid}`, storage: getRxStorageMemory() });
  t.after(() => rx.close());
  const { heroes } = await rx.addCollections({ heroes: { schema: {
    version: 0, primaryKey: '_id', type: 'object', properties: { _id: { type: 'string', maxLength: 100 }, power: { type: 'number' } } } } });
  const replication = replicateCouchDB({
    replicationIdentifier: share.id, collection: heroes, url: remote.url + '/', fetch: remote.fetch, live: true, pull: {}, push: {},
  });
  const errors = [];
  replication.error$.subscribe(e => errors.push(e));
  await replication.awaitInitialReplication();
  assert.deepEqual((await heroes.find().exec()).map(d => `${d._id} ${d.power}`).sort(), ['bat 2', 'spider 1']);
  await heroes.insert({ _id: 'iron', power: 3 });
  await db.put({ _id: 'ant', power: 4 });
  await eventually(async () => (await db.get('iron').catch(() => undefined))?.power === 3);
  await eventually(() => heroes.findOne('ant').exec());
  assert.deepEqual(errors, []);
  await replication.cancel();
  remote.close(); // ends the request that RxDB leaves waiting
});
