// nano, Apache's own client, on a hub. Arguments: the hub's URL, an
// administrator's name and password. Whatever is not as expected ends it with status 1.
import assert from 'node:assert/strict';
import {once} from 'node:events';
import Nano from 'nano';

const [hub, admin, password] = process.argv.slice(2);
const nano = Nano(hub);

const fails = (promise, status, error, reason) => assert.rejects(promise, e => {
  assert.equal(e.statusCode, status, `${e.statusCode} ${e.error}: ${e.reason}`);
  assert.equal(e.error, error);
  if (reason) assert.equal(e.reason, reason);
  return true;
});

// The session's cookie.
await fails(nano.db.create('nano'), 401, 'unauthorized', 'You are not a server admin.');
await fails(nano.auth(admin, 'wrong'), 401, 'unauthorized', 'Name or password is incorrect.');
assert.deepEqual(await nano.auth(admin, password), {ok: true, name: admin, roles: ['_admin']});
assert.equal((await nano.session()).userCtx.name, admin);
assert.equal((await nano.info()).couchdb, 'Welcome');
assert.equal((await nano.uuids(3)).uuids.length, 3);

// Databases.
assert.deepEqual(await nano.db.create('nano'), {ok: true});
await fails(nano.db.create('nano'), 412, 'file_exists', 'The database could not be created, the file already exists.');
await fails(nano.db.create('Nano'), 400, 'illegal_database_name');
assert.ok((await nano.db.list()).includes('nano'));
const db = nano.use('nano');
assert.equal((await db.info()).db_name, 'nano');
await fails(nano.use('nope').info(), 404, 'not_found', 'Database does not exist.');

// Documents.
const first = await db.insert({n: 1}, 'a/ü +b');
assert.ok(first.ok && first.id === 'a/ü +b');
await fails(db.insert({n: 2}, 'a/ü +b'), 409, 'conflict', 'Document update conflict.');
const second = await db.insert({_id: 'a/ü +b', _rev: first.rev, n: 2});
assert.match(second.rev, /^2-/);
assert.equal((await db.get('a/ü +b')).n, 2);
const old = await db.get('a/ü +b', {rev: first.rev, revs: true, revs_info: true});
assert.equal(old.n, 1);
assert.equal(old._revs_info.length, 1);
const head = await db.head('a/ü +b');
assert.equal(head.etag, `"${second.rev}"`);
await fails(db.get('nope'), 404, 'not_found', 'missing');
const named = await db.insert({anonymous: true});
assert.match(named.id, /^[0-9a-f]{32}$/);
await db.destroy(named.id, named.rev);
await fails(db.get(named.id), 404, 'not_found', 'deleted');
const bulk = await db.bulk({docs: [...Array.from({length: 50}, (_, i) => ({_id: `doc${String(i).padStart(2, '0')}`, i, even: i % 2 === 0})), {_id: 'a/ü +b'}]});
assert.equal(bulk.length, 51);
assert.equal(bulk[50].error, 'conflict');

// Many at once.
const fetched = await db.fetch({keys: ['doc01', 'nope', named.id, 'a/ü +b']});
assert.equal(fetched.rows[0].doc.i, 1);
assert.equal(fetched.rows[1].error, 'not_found');
assert.deepEqual([fetched.rows[2].value.deleted, fetched.rows[2].doc], [true, null]);
assert.equal(fetched.rows[3].doc.n, 2);
const revs = await db.fetchRevs({keys: ['doc01', 'doc02']});
assert.ok(revs.rows.every(r => r.value.rev.startsWith('1-')));
const listed = await db.list({startkey: 'doc10', endkey: 'doc19', inclusive_end: false, include_docs: true, descending: false, limit: 5, skip: 2});
assert.deepEqual(listed.rows.map(r => r.doc.i), [12, 13, 14, 15, 16]);
const missing = await db.fetch({keys: ['x']}, {include_docs: false});
assert.equal(missing.rows[0].error, 'not_found');

// Queries.
const found = await db.find({selector: {even: true, i: {$gt: 10, $lte: 20}}, fields: ['i'], sort: [{_id: 'asc'}], limit: 3});
assert.deepEqual(found.docs, [{i: 12}, {i: 14}, {i: 16}]);
const more = await db.find({selector: {even: true, i: {$gt: 10, $lte: 20}}, fields: ['i'], limit: 3, bookmark: found.bookmark});
assert.deepEqual(more.docs, [{i: 18}, {i: 20}]);
const stream = db.findAsStream({selector: {i: 7}});
let text = '';
for await (const chunk of stream) text += chunk;
assert.equal(JSON.parse(text).docs[0]._id, 'doc07');

// Changes: one answer, and the reader that follows with longpoll.
const all = await db.changes({include_docs: true});
assert.equal(all.results.length, 52);
assert.equal(all.pending, 0);
const spooled = [];
const spool = db.changesReader.spool({since: 0});
spool.on('batch', b => spooled.push(...b));
await once(spool, 'end');
assert.equal(spooled.length, 52);
const reader = db.changesReader.start({since: all.last_seq, includeDocs: true, timeout: 5000});
const heard = once(reader, 'change');
await db.insert({late: true}, 'late');
assert.equal((await heard)[0].doc.late, true);
const selected = once(reader, 'change');
await db.insert({later: true}, 'later');
assert.equal((await selected)[0].id, 'later');
const stopped = new Promise(resolve => reader.on('end', resolve));
reader.on('error', () => {}); // the poll that is aborted
db.changesReader.stop();
await stopped;

// Attachments: alone, as a stream, and with their document as multipart in both directions.
const bytes = Buffer.from(Array.from({length: 256}, (_, i) => i));
const alone = await db.attachment.insert('file', 'dir/a b.bin', bytes, 'application/octet-stream');
assert.deepEqual(await db.attachment.get('file', 'dir/a b.bin'), bytes);
const parts = [];
for await (const chunk of db.attachment.getAsStream('file', 'dir/a b.bin')) parts.push(chunk);
assert.deepEqual(Buffer.concat(parts), bytes);
assert.ok((await db.attachment.destroy('file', 'dir/a b.bin', {rev: alone.rev})).ok);
const big = Buffer.alloc(700_000, 'big\r\n--');
const two = [{name: 'z.txt', data: 'zz', content_type: 'text/plain'}, {name: 'big.bin', data: big, content_type: 'application/octet-stream'}];
const multi = await db.multipart.insert({multi: 1}, two, 'multi');
assert.ok(multi.ok);
assert.equal((await db.attachment.get('multi', 'z.txt')).toString(), 'zz');
assert.deepEqual(await db.attachment.get('multi', 'big.bin'), big);
const again = (await db.multipart.get('multi')).toString('latin1');
const boundary = again.slice(2, again.indexOf('\r\n'));
const pieces = again.split('--' + boundary);
assert.equal(pieces.length, 5, 'the document, two attachments, and what is before and after');
const json = JSON.parse(pieces[1].slice(pieces[1].indexOf('\r\n\r\n') + 4));
assert.equal(json._attachments['big.bin'].follows, true);
assert.ok(pieces.some(p => p.endsWith('\r\n\r\n' + big.toString('latin1') + '\r\n')));
const stubs = await db.multipart.insert({_rev: multi.rev, multi: 2, _attachments: {'z.txt': {stub: true}}}, [{name: 'new', data: 'n', content_type: 'text/plain'}], 'multi');
assert.match(stubs.rev, /^2-/);
assert.equal((await db.attachment.get('multi', 'z.txt')).toString(), 'zz');
await fails(db.attachment.get('multi', 'big.bin'), 404, 'not_found', 'Document is missing attachment');

// The rest of what is served.
assert.ok((await db.compact()).ok);
assert.ok((await nano.db.destroy('nano')).ok);
await fails(nano.db.destroy('nano'), 404, 'not_found', 'Database does not exist.');
await nano.request({method: 'DELETE', path: '_session'});
assert.equal((await nano.session()).userCtx.name, null);
