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

test('an option that there is not, or of another kind, is refused: it would share more than was meant', async t => {
  const h = hub(), alice = await page(t, h, 'alice4'), db = pouch('plugin');
  const refused = async (made, why) => {
    await assert.rejects(made, e => e.status === 400 && why.test(e.reason));
    assert.equal((await alice.getSharedDatabases()).length, 0, 'nothing is shared');
  };
  await refused(alice.shareDatabase(db, { selector: { public: true } }), /no option selector\. Say what openers see by filter.*docIds/);
  await refused(alice.shareDatabase(db, { readonly: true }), /no option readonly\. It is spelled readOnly/);
  await refused(called(cb => alice.shareDatabase(db, { doc_ids: ['a'] }, cb)), /no option doc_ids\. The options are .*docIds/);
  await refused(alice.shareDatabase(db, JSON.parse('{"__proto__": 1}')), /no option __proto__/);
  await refused(alice.shareDatabase(db, { constructor: 1 }), /no option constructor/);
  for (const [name, values] of Object.entries({
    filter: [null, false, 'app/public', { public: true }], docIds: [null, 'a', new Set(['a'])], allow: [null, 'aaaa-aaaa-aaaa-aaaa'], invited: [null, 'yes', 1], readOnly: [null, 'true', 1],
    expires: [null, '2030-01-01', 1e15], onRemote: [null, true], onWrite: [null, {}], maxRequests: [null, '5'],
  })) {
    for (const value of values) await refused(alice.shareDatabase(db, { [name]: value }), new RegExp(`^The option ${name} is an? `));
  }
  await refused(alice.joinTopic('album', db, { filter: () => true }), /no option filter/);
  await refused(alice.joinTopic('album', db, { accept: 'all' }), /accept is a function/);
  const other = o => new PouchDB(`http://other${Math.random()}/hub`, { fetch: () => assert.fail('asked'), skip_setup: true }).joinHub(o);
  await refused(other({ relayonly: true }), /no option relayonly\. .*relayOnly/);
  await refused(other({ relay: 'none' }), /relay is auto, hub or off/);
  await refused(other({ maxPeers: '1' }), /maxPeers is a number/);
  const s = await alice.shareDatabase(db, { filter: undefined, name: 'all' });
  const served = (await alice.joinHub()).served(db);
  assert.equal(s.filtered, false);
  await assert.rejects(served.invite({ uses: 1 }), { status: 400 });
  await assert.rejects(served.invite({ expires: '2020-01-01' }), { status: 400 });
});
