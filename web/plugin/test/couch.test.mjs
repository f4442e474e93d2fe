// CouchDB's API over a PouchDB, driven by a real PouchDB as its client and by hand.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { couchHandler } from '../lib/couch.js';
import { PouchDB, nodeFetch, pouch } from './support.mjs';

let servers = 0;
function share(options = {}) {
  const db = pouch(), host = `share${++servers}`;
  const handle = couchHandler(db, { name: 'a b', uuid: host, readOnly: false, peer: 'me', ...options });
  const fetch = (url, init) => handle(new Request(url, { ...init, duplex: 'half' }));
  const base = `http://${host}/a%20b`;
  const call = async (method, path, body, headers) => {
    const r = await fetch(base + path, { method, headers, body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body) });
    const t = await r.text();
    try { return { status: r.status, headers: r.headers, json: JSON.parse(t) }; } catch { return { status: r.status, headers: r.headers, text: t }; }
  };
  return { db, call, fetch, remote: new PouchDB(base, { fetch: nodeFetch(fetch), skip_setup: true }) };
}

const rows = async db => (await db.allDocs({ include_docs: true, conflicts: true })).rows.map(r => r.doc);

test('a PouchDB works with it as with CouchDB', async () => {
  const { db, remote } = share();
  assert.equal((await remote.put({ _id: 'a/ü +', n: 1 })).ok, true);
  await remote.bulkDocs([{ _id: 'b', n: 2 }, { _id: 'c', n: 3 }]);
  const a = await remote.get('a/ü +', { revs: true });
  await remote.put({ ...a, n: 4 });
  await assert.rejects(remote.put({ ...a, n: 5 }), { status: 409 });
  await remote.remove(await remote.get('c'));
  await assert.rejects(remote.get('c'), { status: 404 });
  assert.deepEqual(await rows(remote), await rows(db));
  assert.equal((await remote.allDocs({ keys: ['b', 'x'] })).rows[1].error, 'not_found');
  assert.equal((await remote.allDocs({ startkey: 'b', endkey: 'b', inclusive_end: false })).rows.length, 0);
  assert.equal((await remote.find({ selector: { n: 2 } })).docs[0]._id, 'b');
  assert.equal((await remote.info()).doc_count, 2);
  const data = Buffer.from(Array.from({ length: 1000 }, (_, i) => i & 255));
  const { rev } = await remote.putAttachment('b', 'ä/1.bin', (await remote.get('b'))._rev, data, 'application/x');
  assert.ok(data.equals(await remote.getAttachment('b', 'ä/1.bin')));
  assert.ok(data.equals(await db.getAttachment('b', 'ä/1.bin')));
  await remote.removeAttachment('b', 'ä/1.bin', rev);
  await assert.rejects(remote.getAttachment('b', 'ä/1.bin'), { status: 404 });
});

test('replication both ways keeps conflicts, tombstones, attachments, and goes on from its checkpoint', async () => {
  const { db, remote } = share(), local = pouch();
  await db.bulkDocs([{ _id: 'x', by: 'sharer' }, { _id: 'att', _attachments: { f: { content_type: 'text/plain', data: btoa('hello') } } }, { _id: 'gone' }]);
  await db.remove(await db.get('gone'));
  await local.bulkDocs([{ _id: 'x', by: 'opener' }, ...Array.from({ length: 300 }, (_, i) => ({ _id: `l${i}` }))]);
  const first = await local.sync(remote);
  assert.equal(first.push.doc_write_failures + first.pull.doc_write_failures, 0);
  assert.deepEqual(await rows(local), await rows(db));
  assert.equal((await db.get('x', { conflicts: true }))._conflicts.length, 1);
  const again = await local.sync(remote);
  assert.equal(again.push.docs_read + again.pull.docs_read, 0);
});

test('live changes arrive and can be cancelled', async () => {
  const { db, remote } = share(), seen = [];
  await db.put({ _id: '1' });
  const feed = remote.changes({ live: true, since: 0, include_docs: true }).on('change', c => seen.push(c.id));
  const arrives = async n => { for (const till = Date.now() + 3000; seen.length < n && Date.now() < till;) await new Promise(r => setTimeout(r, 5)); assert.equal(seen.length, n); };
  await arrives(1);
  await db.put({ _id: '2' });
  await arrives(2);
  feed.cancel();
  await db.put({ _id: '3' });
  await new Promise(r => setTimeout(r, 30));
  assert.equal(seen.length, 2);
});

test('feeds: limit, descending, now, doc ids, selector, continuous, heartbeats, time-out', async () => {
  const { db, call } = share();
  await db.bulkDocs([{ _id: 'a', n: 1 }, { _id: 'b', n: 2 }, { _id: 'c', n: 2 }]);
  const ids = async (path, method = 'GET', body) => (await call(method, `/_changes?${path}`, body)).json.results.map(r => r.id).join('');
  assert.equal((await ids('limit=2')).length, 2);
  assert.equal(await ids('since=now'), '');
  assert.equal(await ids('filter=_doc_ids', 'POST', { doc_ids: ['b'] }), 'b');
  assert.equal((await ids('filter=_selector', 'POST', { selector: { n: 2 } })).length, 2);
  assert.equal((await call('GET', '/_changes?feed=longpoll&since=now&timeout=20')).json.results.length, 0);
  const beats = await call('GET', '/_changes?feed=continuous&limit=3&heartbeat=10');
  assert.equal(beats.text.trim().split('\n').length, 4);
  for (const path of ['filter=a/b', 'filter=_view&view=a/b', 'view=a/b']) assert.equal((await call('GET', `/_changes?${path}`)).status, 403, path);
  for (const path of ['feed=x', 'limit=x', 'feed=longpoll&timeout=-1']) assert.equal((await call('GET', `/_changes?${path}`)).status, 400, path);
});

test('what a share refuses, whatever the way of asking', async () => {
  const { db, call } = share();
  await db.put({ _id: '_design/d', views: { v: { map: 'function(d){emit(1)}' } }, filters: { f: 'function(){return true}' } });
  await db.put({ _id: '_local/secret', x: 1 });
  await db.put({ _id: 'a' });
  for (const [method, path, body, status = 403] of [
    ['DELETE', ''], ['PUT', ''], ['POST', '/_compact', {}], ['POST', '/_purge', {}], ['PUT', '/_security', {}], ['GET', '/_security'],
    ['PUT', '/_revs_limit', 1], ['POST', '/_index', { index: { fields: ['a'] } }], ['POST', '/_temp_view', {}], ['GET', '/_design/d/_view/v', undefined, 404],
    ['PUT', '/_design/e', {}], ['PUT', '/_design%2Fe', {}], ['PUT', '/_design/e?new_edits=false', { _rev: '1-a' }], ['DELETE', '/_design/d?rev=1-x'],
    ['PUT', '/_design/d/f', 'x'], ['POST', '', { _id: '_design/e' }], ['GET', '/_local/secret', undefined, 404], ['GET', '/_local%2Fsecret', undefined, 404],
    ['POST', '/_bulk_docs', '{', 400], ['POST', '/_bulk_docs', {}, 400], ['POST', '/_bulk_get', {}, 400], ['PATCH', '/a', {}, 405], ['GET', '/x', undefined, 404],
    ['GET', '/%E0%A4%A', undefined, 400], ['PUT', '/x', 'null', 400], ['PUT', '/x', '[]', 400], ['POST', '', '3', 400], ['GET', '/_all_docs?startkey=x', undefined, 400], ['GET', '/../other', undefined, 404],
  ]) assert.equal((await call(method, path, body)).status, status, `${method} ${path}`);
  const { json } = await call('POST', '/_bulk_docs', { docs: [{ _id: '_design/e' }, { _id: 'ok' }] });
  assert.deepEqual(json.map(r => r.error), ['forbidden', undefined]);
  const replicated = await call('POST', '/_bulk_docs', { new_edits: false, docs: [{ _id: '_design/e', _rev: '1-a' }, { _id: 'ok2', _rev: '1-a' }] });
  assert.deepEqual(replicated.json.map(r => r.id), ['_design/e']);
  await assert.rejects(db.get('_design/e'));
});

test('a read-only share is read, with checkpoints of each peer', async () => {
  const { db, call, remote } = share({ readOnly: true }), local = pouch();
  await db.put({ _id: 'a' });
  assert.equal((await local.replicate.from(remote)).docs_written, 1);
  assert.equal((await local.replicate.from(remote)).docs_read, 0);
  for (const [method, path, body] of [['PUT', '/b', {}], ['DELETE', '/a?rev=x'], ['POST', '', {}], ['PUT', '/a/f', 'x'], ['PUT', '/b?new_edits=false', { _rev: '1-a' }]]) {
    assert.deepEqual([(await call(method, path, body)).status, (await call(method, path, body)).json.reason], [403, 'This share is read-only.']);
  }
  await local.put({ _id: 'b' });
  const push = await local.replicate.to(remote);
  assert.deepEqual([push.docs_written, push.doc_write_failures, push.errors[0].name], [0, 1, 'forbidden']);
  assert.equal((await db.allDocs()).rows.length, 1);
  assert.equal((await call('PUT', '/_local/x', { y: 'z'.repeat(70_000) })).status, 413);
});

test('attachments are data to a browser, and their types no other headers', async () => {
  const { db, call } = share();
  const types = { html: 'text/html', odd: 'text/html\r\nSet-Cookie: a=b', none: '', mixed: 'multipart/x-mixed-replace; boundary=x' };
  await db.put({ _id: 'm', _attachments: Object.fromEntries(Object.entries(types).map(([name, content_type]) => [name, { content_type, data: btoa('<script>') }])) });
  for (const name in types) {
    const a = await call('GET', '/m/' + name);
    assert.deepEqual([a.status, a.text, a.headers.get('content-type')], [200, '<script>', name === 'html' ? 'text/html' : 'application/octet-stream'], name);
    assert.match(a.headers.get('content-security-policy'), /^sandbox; default-src 'none'/);
    assert.equal(a.headers.get('x-content-type-options'), 'nosniff');
    assert.equal(a.headers.has('set-cookie'), false);
  }
});

test('multipart documents and ranges', async () => {
  const { db, call } = share();
  const body = ['--x', 'Content-Type: application/json', '', JSON.stringify({ _attachments: {
    a: { content_type: 'text/plain', follows: true, length: 5 }, b: { content_type: 'text/plain', data: btoa('inline') }, c: { content_type: 'text/css', follows: true, length: 4 } } }),
  '--x', '', 'he\r\nx', '--x', 'Content-Disposition: attachment', '', '--y-'.slice(0, 4), '--x--'].join('\r\n');
  const put = await call('PUT', '/m', body, { 'Content-Type': 'multipart/related; boundary="x"' });
  assert.equal(put.status, 201, JSON.stringify(put));
  assert.equal(String(await db.getAttachment('m', 'a')), 'he\r\nx');
  assert.equal(String(await db.getAttachment('m', 'b')), 'inline');
  assert.equal(String(await db.getAttachment('m', 'c')), '--y-');
  const part = await call('GET', '/m/b', undefined, { Range: 'bytes=2-' });
  assert.deepEqual([part.status, part.text, part.headers.get('content-range')], [206, 'line', 'bytes 2-5/6']);
  assert.match(part.headers.get('etag'), /^"md5-/);
  assert.equal((await call('GET', '/m/b', undefined, { Range: 'bytes=6-' })).status, 416);
  assert.equal((await call('PUT', '/n', body.replace('"length":5', '"length":6'), { 'Content-Type': 'multipart/related; boundary=x' })).status, 400);
});
