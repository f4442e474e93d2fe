// The plugin's methods on PouchDBs, as a page uses them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Identity } from '../lib/identity.js';
import Loveseat from '../lib/index.js';
import { FakeRTCPeerConnection, PouchDB, eventually, hub, pouch } from './support.mjs';

PouchDB.plugin(Loveseat);

/** A PouchDB that is a hub, as another page has it. */
async function page(t, h, host) {
  const fetch = (url, init) => h(new URL(url).pathname === '/' ? '../' : String(url).replace(/^.*?\/hub\/?/, ''), init);
  const db = new PouchDB(`http://${host}/hub`, { fetch, skip_setup: true });
  await db.joinHub({ identity: await Identity.create(), RTCPeerConnection: FakeRTCPeerConnection });
  t.after(() => db.leaveHub());
  return db;
}

const called = fn => new Promise((resolve, reject) => fn((e, v) => e ? reject(e) : resolve(v)));

test('a database is shared, seen, opened by its dbname, and unshared, by promises', async t => {
  const h = hub(), alice = await page(t, h, 'alice'), bob = await page(t, h, 'bob'), db = pouch('plugin');
  const changes = [], shares = await bob.getSharedDatabases({ onChange: c => changes.push(c.kind) });
  assert.equal(shares.length, 0);
  const s = await alice.shareDatabase(db, { name: 'notes' });
  await eventually(() => changes.join() === 'new');
  assert.equal(s.link, `http://alice/hub/share:${s.id}`);
  const [seen] = await bob.getSharedDatabases();
  const remote = new PouchDB(seen.dbname);
  assert.equal(remote.adapter, 'loveseat');
  await remote.put({ _id: 'a', n: 1 });
  assert.equal((await db.get('a')).n, 1);
  assert.equal((await remote.find({ selector: { n: 1 } })).docs.length, 1);
  assert.equal((await pouch().replicate.from(remote)).docs_written, 1);
  assert.equal((await remote.info()).doc_count, 1);
  await assert.rejects(remote.get('b'), { status: 404 });
  await remote.destroy().then(() => assert.fail('destroyed'), e => assert.equal(e.status, 403));
  shares.cancel();
  await alice.unshareDatabase(db);
  await eventually(async () => (await bob.getSharedDatabases()).length === 0);
  assert.equal(changes.join(), 'new');
});

test('the same by callbacks', async t => {
  const h = hub(), alice = await page(t, h, 'alice2'), bob = await page(t, h, 'bob2'), db = pouch('plugin');
  const s = await called(cb => alice.shareDatabase(db, { name: 'called' }, cb));
  assert.deepEqual((await called(cb => bob.getSharedDatabases(cb))).map(x => x.id), [s.id]);
  assert.deepEqual((await called(cb => bob.getSharedDatabases({}, cb))).map(x => x.name), ['called']);
  const remote = new PouchDB(s.dbname);
  assert.equal((await called(cb => remote.info(cb))).doc_count, 0);
  await assert.rejects(called(cb => alice.shareDatabase(db, cb)), { status: 412 });
  await assert.rejects(called(cb => alice.shareDatabase(db, { name: '' }, cb)), { status: 400 });
  await called(cb => alice.unshareDatabase(db, cb));
  await called(cb => alice.leaveHub(cb));
});

test('what cannot be opened says why, and never with the 404 of a missing document', async t => {
  const dbname = `loveseat://${'a'.repeat(26)}`;
  await assert.rejects(new PouchDB(dbname).info(), e => e.status !== 404 && /No hub was joined/.test(e.message));
  const h = hub();
  await page(t, h, 'alice3');
  await assert.rejects(new PouchDB(dbname).info(), e => e.status !== 404 && /No live share/.test(e.message));
  await assert.rejects(pouch().shareDatabase(pouch()), /A hub is a PouchDB with a URL/);
});
