// Who may open what, custom messages, topics and the relay: pages of real browsers and the real binaries.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { World, browsers, eventually } from './world.mjs';

let w, hub;
before(async () => {
  w = await World.open();
  hub = (await w.hub()).url;
});
after(() => w.close());

const ids = (page, db) => page.evaluate(async db => (await new PouchDB(db).allDocs()).rows.map(r => r.id).join(), db);
const answers = async (url, path = '') => {
  const r = await fetch(url + path);
  return `${r.status} ${(await r.json().catch(() => ({}))).reason ?? ''}`.trim();
};
/** The share of a name, as a page finds it. */
const find = (page, name) => page.evaluate(async ([hub, name]) => {
  window.hub ??= new PouchDB(hub);
  return (await window.hub.getSharedDatabases()).find(s => s.name === name);
}, [hub, name]);

for (const kind of browsers) {
  test(`${kind}: invites, of a page and of Go`, async () => {
    const page = await w.page('/', kind);
    const link = await page.evaluate(async ([hub, name]) => {
      const db = new PouchDB('mine'), h = new PouchDB(hub);
      await db.put({ _id: 'seen' });
      await h.shareDatabase(db, { name, invited: true });
      return (await (await h.joinHub()).served(db).invite({ once: true })).link;
    }, [hub, `invited ${kind}`]);
    const failed = w.start('loveseat', 'open', hub, link.split('#')[0], '--json');
    assert.notEqual(await failed.exited, 0);
    assert.match(failed.stderr(), /needs an invite/);
    await w.loveseat(['sync', w.path(`invited-${kind}/copy`), link, '--json']);
    assert.deepEqual((await w.export(`invited-${kind}/copy`)).map(d => d._id), ['seen']);

    await w.import(`go-${kind}/invited`, [{ _id: 'of go' }]);
    const s = await w.share(hub, `go-${kind}/invited`, '--invite', '--name', `go invited ${kind}`);
    const got = await page.evaluate(async ([dbname, link]) => {
      const without = await new PouchDB(dbname).allDocs().catch(e => [e.status, e.reason]);
      const db = new PouchDB(`${dbname}#${link.split('#')[1]}`);
      return { without, rows: (await db.allDocs()).rows.map(r => r.id) };
    }, [(await find(page, `go invited ${kind}`)).dbname, s.invite]);
    assert.deepEqual(got, { without: [403, 'This share needs an invite.'], rows: ['of go'] });
    await page.end();
  });

  test(`${kind}: revocation, by a page and by Go`, async () => {
    const page = await w.page('/', kind);
    const s = await page.evaluate(async ([hub, name]) => {
      window.mine = new PouchDB('mine');
      await mine.put({ _id: 'a' });
      window.h = new PouchDB(hub);
      return h.shareDatabase(mine, { name });
    }, [hub, `revoked ${kind}`]);
    const { url } = await w.open(hub, s.id);
    assert.equal(await answers(url), '200');
    const feed = fetch(url + '/_changes?feed=continuous&heartbeat=1000&since=now').then(r => r.text()).catch(() => 'cut');
    await page.evaluate(async () => {
      const share = (await h.joinHub()).served(mine);
      await share.revoke(share.openers[0].peer, 'Not any more.');
    });
    assert.equal(await answers(url), '403 Access to this share was revoked. Not any more.');
    await feed; // ends

    await w.import(`go-${kind}/revoked`, [{ _id: 'a' }]);
    const g = await w.share(hub, `go-${kind}/revoked`, '--name', `go revoked ${kind}`);
    const { dbname } = await find(page, `go revoked ${kind}`);
    const peer = await page.evaluate(async dbname => {
      window.remote = new PouchDB(dbname);
      await remote.get('a');
      window.cut = new Promise(r => remote.changes({ live: true, since: 'now' }).on('error', r).on('complete', r));
      return (await h.joinHub()).id;
    }, dbname);
    await w.loveseat(['--identity', w.path(`go-${kind}`), 'revoke', hub, g.id, peer, '--json']);
    assert.deepEqual(await page.evaluate(() => remote.get('a').catch(e => [e.status, e.reason])), [403, 'Access to this share was revoked.']);
    await page.end();
  });

  test(`${kind}: a filtered share of a page shows Go nothing hidden, and one of Go a page`, async () => {
    const docs = [{ _id: 'open', public: true }, { _id: 'secret', word: 'hush' }];
    const page = await w.page('/', kind);
    const s = await page.evaluate(async ([hub, name, docs]) => {
      const db = new PouchDB('filtered');
      await db.bulkDocs(docs);
      return new PouchDB(hub).shareDatabase(db, { name, filter: d => d.public === true });
    }, [hub, `filtered ${kind}`, docs]);
    assert.deepEqual([s.filtered, s.docCount], [true, 1]);
    const { url } = await w.open(hub, s.id);
    const paths = ['/secret', '/secret?open_revs=all', '/_all_docs?include_docs=true', '/_all_docs?keys=["secret"]&include_docs=true', '/_changes?include_docs=true', '/_find', '/_bulk_get'];
    const body = { '/_find': { selector: { word: 'hush' } }, '/_bulk_get': { docs: [{ id: 'secret' }] } };
    for (const path of paths) {
      const init = body[path] && { method: 'POST', body: JSON.stringify(body[path]), headers: { 'Content-Type': 'application/json' } };
      assert.doesNotMatch(await (await fetch(url + path, init)).text(), /hush/, path);
    }
    await w.loveseat(['sync', w.path(`filtered-${kind}/copy`), s.link, '--json']);
    assert.deepEqual((await w.export(`filtered-${kind}/copy`)).map(d => d._id), ['open']);

    await w.import(`go-${kind}/filtered`, docs);
    await w.share(hub, `go-${kind}/filtered`, '--name', `go filtered ${kind}`, '--selector', '{"public":true}');
    const found = await find(page, `go filtered ${kind}`);
    assert.equal(found.filtered, true);
    assert.deepEqual(await page.evaluate(async dbname => {
      const db = new PouchDB(dbname), local = new PouchDB('pulled');
      await local.replicate.from(db);
      return [(await local.allDocs()).rows.map(r => r.id), await db.get('secret').catch(e => e.status), await db.put({ _id: 'x' }).catch(e => e.status)];
    }, found.dbname), [['open'], 404, 403]);
    await page.end();
  });

  test(`${kind}: the page and Go talk through the hub alone`, async () => {
    await w.import(`go-${kind}/relayed`, [{ _id: 'a', text: 'x'.repeat(100_000) }]);
    const s = await w.share(hub, `go-${kind}/relayed`, '--name', `relayed ${kind}`, '--relay', 'hub');
    const page = await w.page('/', kind);
    const got = await page.evaluate(async ([hub, id]) => {
      window.peer = await loveseat.Peer.join({ hub, relay: 'hub' });
      const r = await peer.open(id), doc = await (await r.fetch(r.url + '/a')).json();
      window.mine = new PouchDB('relayed');
      await mine.put({ _id: 'of the page', text: 'y'.repeat(100_000) });
      return { length: doc.text.length, route: peer.peers()[0].route, share: await peer.share(mine, { name: 'relayed' }) };
    }, [hub, s.id]);
    assert.deepEqual([got.length, got.route], [100_000, 'hub']);
    const p = w.start('loveseat', 'open', hub, got.share.id, '--json', '--relay', 'hub');
    const { url } = await p.next('open');
    assert.equal((await (await fetch(url + '/of%20the%20page')).json()).text.length, 100_000);
    await page.end();
  });
}

test('a page that is not signed in proves its key to a hub with accounts: it shares, opens, and ends its share when it goes', async () => {
  const { url } = await w.start('hubserver', '--addr', '127.0.0.1:0', '--data', w.path('guarded'), '--json', '--log', 'warn', '--admin', 'ann:secret',
    '--origin', w.origin, '--hub-database', 'hub list=* publish=* open=* signal=*').next('listening');
  const guarded = url + '/hub', page = await w.page();
  const { id } = await page.evaluate(async guarded => {
    window.h = new PouchDB(guarded, { skip_setup: true });
    const db = new PouchDB('proved');
    await db.put({ _id: 'a' });
    return h.shareDatabase(db, { name: 'proved' });
  }, guarded);
  for (const relay of ['auto', 'hub']) {
    const opened = await w.start('loveseat', 'open', guarded, id, '--relay', relay, '--json').next('open');
    assert.equal(await answers(opened.url, '/a'), '200');
  }
  await w.import('go-guarded/notes', [{ _id: 'of go' }]);
  await w.share(guarded, 'go-guarded/notes', '--name', 'go proved');
  assert.deepEqual(await page.evaluate(async () => {
    const s = (await h.getSharedDatabases()).find(s => s.name === 'go proved');
    return (await new PouchDB(s.dbname).allDocs()).rows.map(r => r.id);
  }), ['of go']);
  const path = `${guarded}/share:${id}`, put = async doc => (await fetch(path, { method: 'PUT', body: JSON.stringify(doc), headers: { 'Content-Type': 'application/json' } })).status;
  const doc = await (await fetch(path)).json();
  assert.equal(await put({ ...doc, _rev: undefined }), 403);
  await page.goto('about:blank');
  await eventually(async () => (await fetch(path)).status === 404);
  assert.equal(await put({ ...doc, _rev: undefined }), 403);
  await page.end();
});

test('pages ask each other by custom requests, and broadcast', async () => {
  const [alice, bob] = [await w.page('/', browsers[0]), await w.page('/', browsers.at(-1))];
  const { id } = await alice.evaluate(async hub => {
    window.heard = [];
    const requests = { add: ({ a, b }) => a + b, async *count(n) { for (let i = 0; i < n; i++) yield i; } };
    return new PouchDB(hub).shareDatabase(new PouchDB('talk'), { name: 'talk', requests, onMessage: m => heard.push(m) });
  }, hub);
  const got = await bob.evaluate(async ([hub, id]) => {
    const h = new PouchDB(hub);
    await h.getSharedDatabases();
    const custom = await (await (await h.joinHub()).open(id)).custom(), all = [];
    for await (const v of custom.stream('count', 3)) all.push(v);
    await custom.broadcast({ cursor: 7 });
    return { sum: await custom.request('add', { a: 1, b: 2 }), all, missing: await custom.request('nothing').catch(e => e.status) };
  }, [hub, id]);
  assert.deepEqual(got, { sum: 3, all: [0, 1, 2], missing: 404 });
  await eventually(() => alice.evaluate(() => heard.some(m => m.message.cursor === 7)));
  await alice.end();
  await bob.end();
});

test('a topic of three pages and two Go peers: all converge, also after a page has gone and come back', async () => {
  const pages = [];
  for (let i = 0; i < 3; i++) pages.push(await w.page('/', browsers[i % browsers.length]));
  const join = (page, i) => page.evaluate(async ([hub, i]) => {
    window.db = new PouchDB('album');
    await db.put({ _id: `page ${i}` }).catch(() => {});
    window.topic = await new PouchDB(hub).joinTopic('album', db);
  }, [hub, i]);
  for (const n of ['one', 'two']) {
    await w.import(`${n}/album`, [{ _id: `go ${n}` }]);
    await w.start('loveseat', 'join', hub, w.path(`${n}/album`), 'album', '--json').next('joined');
  }
  for (const [i, p] of pages.entries()) await join(p, i);
  const same = async want => eventually(async () => {
    const all = [...await Promise.all(pages.map(p => ids(p, 'album'))), ...(await Promise.all(['one', 'two'].map(n => w.export(`${n}/album`)))).map(docs => docs.map(d => d._id).join())];
    assert.deepEqual(all, Array(5).fill(want));
    return true;
  }, 60_000);
  await same('go one,go two,page 0,page 1,page 2');
  await pages[0].evaluate(() => topic.awaitInSync());
  await w.load(pages[1]);
  await w.import('one/album', [{ _id: 'later' }]);
  await pages[2].evaluate(async () => db.remove(await db.get('page 0')));
  await join(pages[1], 1);
  await same('go one,go two,later,page 1,page 2');
  for (const p of pages) await p.end();
});

test('the network is cut and comes back: live sync goes on', async () => {
  await w.import('go/cut', [{ _id: 'a' }]);
  const s = await w.share(hub, 'go/cut', '--name', 'cut'), page = await w.page();
  await page.evaluate(async ([hub, name]) => {
    const found = (await new PouchDB(hub).getSharedDatabases()).find(s => s.name === name);
    window.sync = new PouchDB('cut').sync(new PouchDB(found.dbname), { live: true, retry: true, back_off_function: () => 500 });
    sync.catch(() => {});
  }, [hub, 'cut']);
  await eventually(async () => await ids(page, 'cut') === 'a');
  s.process.signal('SIGSTOP'); // nothing is answered any more, as behind a cable that was pulled
  await page.evaluate(() => new PouchDB('cut').put({ _id: 'b' }));
  await new Promise(r => setTimeout(r, 13_000)); // longer than a silent peer is waited for
  s.process.signal('SIGCONT');
  await w.import('go/cut', [{ _id: 'c' }]);
  await eventually(async () => await ids(page, 'cut') === 'a,b,c' && (await w.export('go/cut')).map(d => d._id).join() === 'a,b,c', 40_000);
  await page.end();
});
