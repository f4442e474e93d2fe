// Pages of real browsers and the real binaries, as equal peers of one hub.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { World, browsers, eventually } from './world.mjs';

let w, hub;
before(async () => {
  w = await World.open();
  hub = (await w.hub()).url;
});
after(() => w.close());

const md5 = b64 => 'md5-' + createHash('md5').update(Buffer.from(b64, 'base64')).digest('base64');

/** What a database holds, for comparison: ids, revisions and the attachments' digests. */
const told = docs => docs.map(d => [d._id, d._rev, Object.entries(d._attachments ?? {}).map(([name, a]) => [name, a.data ? md5(a.data) : a.digest]).sort()])
  .sort((a, b) => a[0] < b[0] ? -1 : 1);
const ofPage = async (page, db, attachments = true) => told(await page.evaluate(async ([db, attachments]) =>
  (await new PouchDB(db).allDocs({ include_docs: true, attachments })).rows.map(r => r.doc), [db, attachments]));
const ofGo = async db => told(await w.export(db));
const ofURL = async url => told((await (await fetch(`${url}/_all_docs?include_docs=true`)).json()).rows.map(r => r.doc));

const sharedBy = (page, db, options = {}) => page.evaluate(async ([hub, db, options]) => {
  window.events = [];
  const mine = window.mine = new PouchDB(db);
  return new PouchDB(hub).shareDatabase(mine, { onEvent: e => events.push(e), ...options });
}, [hub, db, options]);

const dbname = (page, name) => page.evaluate(async ([hub, name]) => {
  window.hub ??= new PouchDB(hub);
  return (await window.hub.getSharedDatabases()).find(s => s.name === name).dbname;
}, [hub, name]);

for (const kind of browsers) {
  test(`${kind}: Go shares, a page opens: documents, queries, attachments, live changes, cancel, replication`, async () => {
    const data = randomBytes(100_000);
    await w.import(`go-${kind}/notes`, [{ _id: 'a', n: 1 }, { _id: 'b/ü', n: 2, _attachments: { 'ä 1.bin': { content_type: 'application/x', data: data.toString('base64') } } }]);
    await w.share(hub, `go-${kind}/notes`, '--name', `go notes ${kind}`, '--info', '{"motto":"<b>ü"}');
    const page = await w.page('/', kind), name = await dbname(page, `go notes ${kind}`);
    assert.match(name, /^loveseat:\/\/[a-z2-7]{26}$/);
    const seen = await page.evaluate(async name => {
      const db = window.remote = new PouchDB(name), live = window.live = [];
      window.feed = db.changes({ since: 'now', live: true, include_docs: true }).on('change', c => live.push(c.doc));
      const blob = await db.getAttachment('b/ü', 'ä 1.bin');
      const digest = await crypto.subtle.digest('SHA-256', await blob.arrayBuffer());
      const missing = await db.get('missing').catch(e => e.status);
      const put = await db.put({ _id: 'from page', n: 3 });
      return {
        info: (await hub.getSharedDatabases()).find(s => s.dbname === name).info, all: (await db.allDocs({ include_docs: true })).rows.map(r => r.id), a: await db.get('a'),
        found: (await db.find({ selector: { n: { $gt: 1 } } })).docs.map(d => d._id).sort(), type: blob.type, missing, put: put.ok,
        digest: Array.from(new Uint8Array(digest), b => b.toString(16).padStart(2, '0')).join(''),
      };
    }, name);
    assert.deepEqual(seen.all, ['a', 'b/ü', 'from page']);
    assert.equal(seen.a.n, 1);
    assert.deepEqual([seen.found, seen.type, seen.missing, seen.put, seen.info.motto], [['b/ü', 'from page'], 'application/x', 404, true, '<b>ü']);
    assert.equal(seen.digest, createHash('sha256').update(data).digest('hex'));
    await w.import(`go-${kind}/notes`, [{ _id: 'live', n: 4 }]);
    await eventually(() => page.evaluate(() => live.some(d => d._id === 'live' && d.n === 4)));
    await page.evaluate(() => feed.cancel());
    await w.import(`go-${kind}/notes`, [{ _id: 'after', n: 5 }]);
    const rep = await page.evaluate(async () => await new PouchDB('local').replicate.from(remote));
    assert.deepEqual([rep.docs_written, rep.doc_write_failures], [5, 0]);
    assert.equal(await page.evaluate(() => live.some(d => d._id === 'after')), false);
    assert.deepEqual(await ofPage(page, 'local'), await ofGo(`go-${kind}/notes`));
    assert.equal(await page.evaluate(async () => (await new PouchDB('local').replicate.from(remote)).docs_read), 0);
    await page.end();
  });

  test(`${kind}: a page shares, Go opens and syncs: documents and digests are the same`, async () => {
    const page = await w.page('/', kind);
    await page.evaluate(async () => {
      const db = new PouchDB('shared'), big = new Uint8Array(300_000).map((_, i) => i * i);
      await db.bulkDocs(Array.from({ length: 500 }, (_, i) => ({ _id: `doc ${i}`, text: 'x'.repeat(i) })));
      await db.put({ _id: 'att', _attachments: { 'small': { content_type: 'text/plain', data: btoa('hello') }, 'big': { content_type: 'application/x', data: new Blob([big]) } } });
      await db.remove(await db.get('doc 7'));
      await db.bulkDocs([{ _id: 'conflict', _rev: '1-a', by: 1 }, { _id: 'conflict', _rev: '1-b', by: 2 }], { new_edits: false });
    });
    const s = await sharedBy(page, 'shared', { name: `of a page ${kind}`, info: [1] });
    const opened = await w.open(hub, `of a page ${kind}`);
    const here = await ofPage(page, 'shared');
    assert.equal(here.length, 501);
    assert.deepEqual(await ofURL(opened.url), here);
    const listed = await w.loveseat(['ls', hub, '--json']);
    assert.equal(listed.flat().find(l => l.id === s.id).name, `of a page ${kind}`);
    await w.loveseat(['sync', w.path(`bob-${kind}/copy`), s.link, '--json']);
    assert.deepEqual(await ofGo(`bob-${kind}/copy`), here);
    await w.import(`bob-${kind}/copy`, [{ _id: 'from Go', _attachments: { f: { content_type: 'text/plain', data: randomBytes(200_000).toString('base64') } } }]);
    const done = (await w.loveseat(['sync', w.path(`bob-${kind}/copy`), s.link, '--json'])).at(-1);
    assert.deepEqual([done.pushed.docs_written, done.pushed.doc_write_failures, done.pulled.docs_read], [1, 0, 0]);
    assert.deepEqual(await ofPage(page, 'shared'), await ofGo(`bob-${kind}/copy`));
    assert.deepEqual((await page.evaluate(async () => (await mine.get('conflict', { conflicts: true }))._conflicts)), ['1-a']);
    for (const [method, path, body] of [['PUT', '/_design/x', '{}'], ['DELETE', '', undefined], ['POST', '/_compact', '{}'], ['PUT', '/_security', '{}'], ['GET', '/_changes?filter=d/f', undefined]]) {
      const r = await fetch(opened.url + path, { method, body, headers: { 'Content-Type': 'application/json' } });
      assert.equal(r.status, 403, `${method} ${path}`);
    }
    const kinds = await page.evaluate(() => events.map(e => e.kind));
    assert.equal(kinds[0], 'opened');
    await page.goto('about:blank');
    await eventually(async () => !(await w.loveseat(['ls', hub, '--json'])).flat().some(l => l.id === s.id));
    await page.end();
  });

  test(`${kind}: refusal and read-only, by promises and callbacks`, async () => {
    const page = await w.page('/', kind);
    await page.evaluate(async ([hub, name]) => {
      const db = window.mine = new PouchDB('private');
      await db.put({ _id: 'secret' });
      const ask = e => { window.asked = e.peer; e.preventDefault('Not you.'); };
      await new Promise((resolve, reject) => new PouchDB(hub).shareDatabase(db, { name, onRemote: ask }, (e, s) => e ? reject(e) : resolve(s)));
    }, [hub, `private ${kind}`]);
    const failed = w.start('loveseat', 'open', hub, `private ${kind}`, '--json');
    assert.notEqual(await failed.exited, 0);
    assert.match(failed.stderr(), /Not you\./);
    assert.match(await page.evaluate(() => asked), /^[a-z2-7]{4}(-[a-z2-7]{4}){7}$/);
    await page.evaluate(hub => new Promise((resolve, reject) => new PouchDB(hub).unshareDatabase(mine, e => e ? reject(e) : resolve())), hub);

    const s = await sharedBy(page, 'private', { name: `readable ${kind}`, readOnly: true });
    const { url } = await w.open(hub, `readable ${kind}`);
    const put = await fetch(`${url}/x`, { method: 'PUT', body: '{}', headers: { 'Content-Type': 'application/json' } });
    assert.deepEqual([put.status, (await put.json()).reason], [403, 'This share is read-only.']);
    await w.loveseat(['sync', w.path(`bob-${kind}/readable`), s.link, '--pull', '--json']);
    assert.deepEqual(await ofGo(`bob-${kind}/readable`), await ofPage(page, 'private'));
    const again = (await w.loveseat(['sync', w.path(`bob-${kind}/readable`), s.link, '--pull', '--json'])).at(-1);
    assert.equal(again.pulled.docs_read, 0);

    await w.import(`go-${kind}/ro`, [{ _id: 'a' }]);
    await w.share(hub, `go-${kind}/ro`, '--name', `go ro ${kind}`, '--read-only');
    const refusal = await page.evaluate(async name => {
      const db = new PouchDB(name), local = new PouchDB('ro'), pull = await local.replicate.from(db);
      await local.put({ _id: 'b' });
      const push = await local.replicate.to(db);
      return [await db.put({ _id: 'b' }).catch(e => [e.status, e.reason]), pull.docs_written, push.doc_write_failures];
    }, await dbname(page, `go ro ${kind}`));
    assert.deepEqual(refusal, [[403, 'This share is read-only.'], 1, 1]);
    await page.end();
  });

  test(`${kind}: without PouchDB: fetch for any CouchDB client, and keys that stay and cannot be exported`, async () => {
    const page = await w.page('/', kind);
    const run = () => page.evaluate(async ([hub, name]) => {
      const peer = await loveseat.Peer.join({ hub }), share = (await peer.shares()).find(s => s.name === name);
      const remote = await peer.open(share.id);
      const put = await remote.fetch(`${remote.url}/fetched`, { method: 'PUT', body: '{"n":1}', headers: { 'Content-Type': 'application/json' } });
      const r = await remote.fetch(remote.url + '/_all_docs?limit=1');
      const open = indexedDB.open('loveseat'), db = await new Promise(r => open.onsuccess = () => r(open.result));
      const keys = await new Promise(r => { const q = db.transaction('keys').objectStore('keys').get('device'); q.onsuccess = () => r(q.result); });
      const secret = await crypto.subtle.exportKey('pkcs8', keys.sign.privateKey).catch(e => e.name);
      const state = peer.peers();
      await peer.close();
      return { put: put.status, rows: (await r.json()).rows.length, id: peer.id, secret, state };
    }, [hub, `go notes ${kind}`]);
    const first = await run();
    assert.deepEqual([first.put, first.rows, first.secret], [201, 1, 'InvalidAccessError']);
    assert.equal(first.state.length, 1);
    assert.match(first.state[0].route, /host|prflx|srflx/);
    await w.load(page);
    assert.equal((await run()).id, first.id);
    await page.end();
  });
}

for (const [a, b] of browsers.flatMap((a, i) => browsers.slice(i).map(b => [b, a]))) {
  test(`${a} and ${b}: share, open, and find the share again when its page is reloaded`, async () => {
    const name = `album ${a} ${b}`;
    const [alice, bob] = [await w.page('/', a), await w.page('/', b)];
    await alice.evaluate(() => new PouchDB('album').bulkDocs([{ _id: '1' }, { _id: '2' }]));
    const s = await sharedBy(alice, 'album', { name });
    const changes = await bob.evaluate(async ([hub, name]) => {
      window.told = [];
      window.shares = await new PouchDB(hub).getSharedDatabases({ onChange: c => told.push(c.kind + ' ' + c.share.name) });
      return shares.filter(s => s.name === name).map(s => s.own);
    }, [hub, name]);
    assert.deepEqual(changes, [false]);
    await bob.evaluate(name => {
      window.sync = new PouchDB('copy').sync(new PouchDB(name), { live: true, retry: true, back_off_function: () => 200 });
      sync.catch(() => {});
    }, s.dbname);
    await eventually(async () => (await ofPage(bob, 'copy')).length === 2);
    await w.load(alice);
    await eventually(() => bob.evaluate(name => told.includes('gone ' + name), name));
    const again = await sharedBy(alice, 'album', { name });
    assert.equal(again.id, s.id);
    assert.equal(again.peer, s.peer);
    await eventually(() => bob.evaluate(name => told.includes('new ' + name), name));
    await alice.evaluate(() => mine.put({ _id: '3' }));
    await bob.evaluate(() => new PouchDB('copy').put({ _id: '4' }));
    await eventually(async () => JSON.stringify(await ofPage(bob, 'copy')) === JSON.stringify(await ofPage(alice, 'album')));
    assert.equal((await ofPage(alice, 'album')).length, 4);
    await alice.end();
    await bob.end();
  });
}

test('live sync both ways, over a reload of the page, and over the death of the sharer', async () => {
  await w.import('go/live', [{ _id: 'start' }]);
  const first = await w.share(hub, 'go/live', '--name', 'live');
  const page = await w.page(), name = await dbname(page, 'live');
  const begin = name => page.evaluate(name => {
    window.sync = new PouchDB('live').sync(new PouchDB(name), { live: true, retry: true, back_off_function: () => 200 });
    sync.catch(() => {});
  }, name);
  const same = async n => eventually(async () => {
    const [a, b] = [await ofPage(page, 'live'), await ofGo('go/live')];
    return a.length === n && JSON.stringify(a) === JSON.stringify(b);
  });
  await begin(name);
  await page.evaluate(() => new PouchDB('live').put({ _id: 'page 1' }));
  await w.import('go/live', [{ _id: 'go 1' }]);
  await same(3);
  await w.load(page);
  await w.import('go/live', [{ _id: 'go 2', n: 1 }]);
  await page.evaluate(() => new PouchDB('live').put({ _id: 'page 2' }));
  await begin(await dbname(page, 'live'));
  await same(5);
  await first.process.kill();
  await page.evaluate(() => new PouchDB('live').put({ _id: 'page 3' }));
  const second = await w.share(hub, 'go/live', '--name', 'live');
  assert.equal(second.id, first.id);
  await w.import('go/live', [{ _id: 'go 3' }]);
  await same(7);
  await page.end();
});

test('an attachment of 20 MB passes both ways', async () => {
  const page = await w.page(), data = randomBytes(20 << 20), sha = createHash('sha256').update(data).digest('hex');
  await w.import('go/big', [{ _id: 'd', _attachments: { f: { content_type: 'application/x', data: data.toString('base64') } } }]);
  await w.share(hub, 'go/big', '--name', 'big');
  const got = await page.evaluate(async name => {
    const blob = await new PouchDB(name).getAttachment('d', 'f');
    const db = new PouchDB('big');
    await db.put({ _id: 'd', _attachments: { f: { content_type: 'application/x', data: blob } } });
    return Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer())), b => b.toString(16).padStart(2, '0')).join('');
  }, await dbname(page, 'big'));
  assert.equal(got, sha);
  await sharedBy(page, 'big', { name: 'big of a page' });
  const { url } = await w.open(hub, 'big of a page');
  const back = Buffer.from(await (await fetch(`${url}/d/f`)).arrayBuffer());
  assert.equal(createHash('sha256').update(back).digest('hex'), sha);
  await w.loveseat(['sync', w.path('bob/big'), url, '--json']);
  assert.deepEqual(await ofGo('bob/big'), await ofPage(page, 'big', false));
  const up = await fetch(`${url}/e/f`, { method: 'PUT', body: data, headers: { 'Content-Type': 'application/x' } });
  assert.equal(up.status, 201);
  assert.ok((await ofPage(page, 'big', false)).some(d => d[0] === 'e' && d[2][0][1] === md5(data.toString('base64'))));
  await page.end();
});

test('the example page shows, shares and syncs a list', async () => {
  const [alice, bob] = [await w.page('/example.html'), await w.page('/example.html')];
  for (const p of [alice, bob]) p.on('dialog', d => d.accept());
  await alice.fill('input', 'milk & <b>honey</b>');
  await alice.click('form button');
  await bob.waitForSelector('#shares button');
  const own = await alice.evaluate(async () => (await new PouchDB(new URLSearchParams(location.search).get('hub')).joinHub()).id.slice(0, 9));
  await bob.click(`#shares button:has-text("${own}")`);
  await bob.waitForFunction(() => document.querySelector('#list').textContent === 'milk & <b>honey</b>');
  await bob.fill('input', 'bread');
  await bob.click('form button');
  await alice.waitForFunction(() => document.querySelectorAll('#list li').length === 2);
  assert.deepEqual([...alice.logs, ...bob.logs].filter(l => l.startsWith('error: ') && !l.includes('404')), []);
  await alice.end();
  await bob.end();
});
