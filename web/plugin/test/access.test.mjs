// Who may open a share of a page, what is seen of it, and until when.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { client, eventually, hub, join, pouch } from './support.mjs';

const ask = async (r, path = '', init) => {
  const a = await r.fetch(r.url + path, init);
  return `${a.status} ${(await a.json()).reason ?? ''}`.trim();
};

test('allowlist: peers that are not named are refused', async t => {
  const h = hub(), [alice, bob, eve] = await Promise.all([1, 2, 3].map(() => join(t, h)));
  const s = await alice.share(pouch(), { allow: [bob.id.slice(0, 19)] });
  assert.equal(s.admission, 'listed');
  assert.equal(await ask(await bob.open(s.id)), '200');
  assert.equal(await ask(await eve.open(s.id)), '403 This share is for peers that its owner has listed.');
  await assert.rejects(alice.share(pouch(), { allow: ['bob'] }), { status: 400 });
});

test('invites: only who has one, once, until it is revoked; guesses are limited', async t => {
  const h = hub(), [alice, bob, carol, eve] = await Promise.all([1, 2, 3, 4].map(() => join(t, h))), db = pouch(), events = [];
  const { id, link } = await alice.share(db, { invited: true, onEvent: e => events.push(e.kind) }), share = alice.served(db);
  const invite = await share.invite({ once: true, label: 'for Bob' });
  assert.match(invite.link, new RegExp(`^${link}#[a-z2-7]{26}$`));
  assert.equal(await ask(await bob.open(id)), '403 This share needs an invite.');
  const r = await bob.open(invite.link);
  assert.equal(await ask(r), '200');
  assert.equal(await ask(await carol.open(invite.link)), '403 This invite is not valid, or not any more.');
  assert.deepEqual(share.invites.map(i => [i.label, i.once, i.peer, 'hash' in i]), [['for Bob', true, bob.id, false]]);
  for (let i = 0; i < 10; i++) await ask(await eve.open(id, { invite: 'a'.repeat(26) }));
  assert.equal(await ask(await eve.open(id, { invite: invite.link.split('#')[1] })), '429 Too many invites were tried.');
  const feed = r.fetch(r.url + '/_changes?feed=longpoll&since=now&heartbeat=1000').then(a => a.text());
  feed.catch(() => {});
  await eventually(() => alice.serving()[0].openers.length === 1);
  await share.revokeInvite(invite.id);
  await assert.rejects(feed); // in the middle of an answer
  assert.equal(await ask(r), '403 This invite is not valid, or not any more.');
  assert.ok(events.includes('revoked'));
  const late = await share.invite({ expires: new Date(Date.now() - 1) });
  assert.equal(await ask(await carol.open(late.link)), '403 This invite is not valid, or not any more.');
});

test('what was decided outlives the page: always, revoked, invites', async t => {
  const h = hub(), [alice, bob, carol] = await Promise.all([1, 2, 3].map(() => join(t, h))), db = pouch(), asked = [];
  const o = { onRemote: e => { asked.push([e.peer, e.info]); e.always(); } };
  const { id } = await alice.share(db, o), r = await bob.open(id, { info: { device: 'Bob’s phone' } });
  assert.equal(await ask(r), '200');
  await alice.served(db).revoke(carol.id, 'Bye.');
  r.close();
  await alice.unshare(db);
  await alice.share(db, o);
  assert.equal(await ask(await bob.open(id)), '200');
  assert.equal(await ask(await carol.open(id)), '403 Access to this share was revoked. Bye.');
  assert.deepEqual(asked, [[bob.id, { device: 'Bob’s phone' }]]);
});

test('revoked in the middle of a transfer: it is cut off', async t => {
  const h = hub(), [alice, bob] = await Promise.all([1, 2].map(() => join(t, h))), db = pouch();
  await db.put({ _id: 'a' });
  const { id } = await alice.share(db), r = await bob.open(id);
  const answer = await r.fetch(r.url + '/_changes?feed=continuous&heartbeat=50'), reader = answer.body.getReader();
  await reader.read();
  await alice.served(db).revoke(bob.id);
  await assert.rejects(async () => { while (!(await reader.read()).done); });
  for (const path of ['', '/a', '/_all_docs', '/_changes', '/_local/x', '/../_all_dbs']) {
    assert.equal(await ask(r, path), '403 Access to this share was revoked.', path);
  }
  assert.equal(await ask(r, '/_bulk_docs', { method: 'POST', body: '{"docs":[{"_id":"x"}]}' }), '403 Access to this share was revoked.');
  assert.equal((await db.info()).doc_count, 1);
});

test('expiry ends the share and says so', async t => {
  const h = hub(), [alice, bob] = await Promise.all([1, 2].map(() => join(t, h))), db = pouch();
  const s = await alice.share(db, { expires: new Date(Date.now() + 3000) }), r = await bob.open(s.id);
  assert.ok(s.until > new Date() && s.expires <= s.until);
  assert.equal(await ask(r), '200');
  await eventually(async () => !(await bob.shares()).length);
  await assert.rejects(r.fetch(r.url), /gone/);
  await assert.rejects(alice.share(pouch(), { expires: new Date(0) }), { status: 400 });
  assert.ok((await alice.share(db)).id === s.id); // and can be shared anew
});

test('write rules hold for replicated writes, and refusals are told', async t => {
  const h = hub(), [alice, bob] = await Promise.all([1, 2].map(() => join(t, h))), db = pouch(), refused = [];
  const { id } = await alice.share(db, {
    onWrite: (doc, from) => { if (doc.owner !== from.peer && !doc._deleted) throw new Error('Not yours.'); },
    onEvent: e => e.kind === 'write_refused' && refused.push(e.id),
  });
  const r = await bob.open(id), remote = client(r), local = pouch();
  await local.bulkDocs([{ _id: 'mine', owner: bob.id }, { _id: 'theirs', owner: alice.id }]);
  const pushed = await local.replicate.to(remote);
  assert.deepEqual([pushed.docs_written, pushed.doc_write_failures], [1, 1]);
  await assert.rejects(remote.put({ _id: 'x' }), { status: 403, reason: 'Not yours.' });
  await assert.rejects(remote.post({ x: 1 }), { name: 'forbidden', reason: 'Not yours.' });
  await assert.rejects(remote.putAttachment('y', 'a', Buffer.from('a'), 'text/plain'), { status: 403 });
  assert.deepEqual((await db.allDocs()).rows.map(x => x.id), ['mine']);
  assert.deepEqual(refused.slice(0, 2), ['theirs', 'x']);
});

/** A database with documents that are public, and hidden ones of each kind. */
async function mixed() {
  const db = pouch(), text = s => Buffer.from(s).toString('base64'), file = s => ({ f: { content_type: 'text/plain', data: text(s) } });
  await db.bulkDocs([
    { _id: 'open', public: true, n: 1, _attachments: file('seen') }, { _id: 'secret', n: 2, word: 'hush', _attachments: file('hush file') },
    { _id: 'gone', public: true }, { _id: 'gone secret', word: 'hush' },
    { _id: 'was open', public: true }, { _id: '_design/d', word: 'hush', views: {} },
  ]);
  for (const id of ['gone', 'gone secret']) await db.remove(await db.get(id));
  const { rev } = await db.put({ ...await db.get('was open'), public: false, word: 'hush' });
  await db.bulkDocs([ // the winner is hidden, the conflict is not
    { _id: 'both', _rev: '2-b', word: 'hush', _revisions: { start: 2, ids: ['b', 'x'] } },
    { _id: 'both', _rev: '1-a', public: true, _revisions: { start: 1, ids: ['a'] } },
  ], { new_edits: false });
  return { db, hidden: { rev, secret: (await db.get('secret'))._rev, digest: (await db.get('secret'))._attachments.f.digest } };
}

test('a filtered share shows nothing hidden by any endpoint', async t => {
  const h = hub(), [alice, bob] = await Promise.all([1, 2].map(() => join(t, h))), { db, hidden } = await mixed();
  const s = await alice.share(db, { filter: d => d.public === true }), r = await bob.open(s.id), remote = client(r);
  assert.deepEqual([s.filtered, s.docCount], [true, 2]);
  const body = x => ({ method: 'POST', body: JSON.stringify(x) });
  const asked = [
    ['/secret'], ['/secret?revs=true&revs_info=true'], [`/secret?rev=${hidden.secret}`], ['/secret?open_revs=all'], [`/secret?open_revs=["${hidden.secret}"]`],
    ['/secret/f'], [`/secret/f?rev=${hidden.secret}`], ['/both'], ['/both?conflicts=true&revs_info=true'], ['/both?rev=2-b'], ['/both?open_revs=all'], ['/was%20open'], [`/was%20open?rev=${hidden.rev}`],
    ['/_design/d'], ['/_all_docs?include_docs=true&conflicts=true'], ['/_all_docs?keys=["secret","both","open","gone","gone secret"]&include_docs=true'], ['/_all_docs?startkey="s"'],
    ['/_all_docs', body({ keys: ['secret'] })], ['/_changes?include_docs=true&style=all_docs&conflicts=true'], ['/_changes?feed=continuous&timeout=50&include_docs=true'],
    ['/_changes?filter=_doc_ids', body({ doc_ids: ['secret'] })], ['/_bulk_get', body({ docs: [{ id: 'secret' }, { id: 'secret', rev: hidden.secret }, { id: 'both' }, { id: 'open' }] })],
    ['/_find', body({ selector: { word: 'hush' } })], ['/_find', body({ selector: { n: { $gt: 0 } }, fields: ['word', '__proto__.x', 'n'] })], ['/_explain', body({ selector: { n: 1 } })], ['/_index'], ['/_local/loveseat-access-' + s.id],
  ];
  for (const [path, init] of asked) {
    const a = await r.fetch(r.url + path, init), text = await a.text();
    assert.doesNotMatch(text.replaceAll(JSON.stringify(path).slice(1, -1), ''), /hush|2-b/, `${path}: ${text}`);
  }
  assert.deepEqual((await remote.allDocs()).rows.map(x => [x.id, x.value.rev === '1-a']), [['both', true], ['open', false]]);
  assert.equal((await remote.info()).doc_count, 2);
  assert.deepEqual((await remote.changes({ since: 0 })).results.map(c => [c.id, !!c.deleted]).sort(), [['both', false], ['gone', true], ['open', false]]);
  assert.deepEqual((await remote.changes({ since: 0, limit: 1 })).results.length, 1);
  const diff = await remote.revsDiff({ secret: [hidden.secret], both: ['1-a', '2-b'] });
  assert.deepEqual(diff, { secret: { missing: [hidden.secret] }, both: { missing: ['2-b'] } }); // no oracle for what is there
  assert.equal(({}).x, undefined);
});

test('a filtered share replicates what is seen, whole and on', async t => {
  const h = hub(), [alice, bob] = await Promise.all([1, 2].map(() => join(t, h))), { db } = await mixed(), local = pouch();
  const remote = client(await bob.open((await alice.share(db, { filter: d => d.public === true })).id));
  const first = await local.replicate.from(remote);
  assert.deepEqual([first.docs_written, first.doc_write_failures], [3, 0]);
  assert.deepEqual((await local.allDocs()).rows.map(x => x.id), ['both', 'open']);
  assert.equal(String(await local.getAttachment('open', 'f')), 'seen');
  await db.bulkDocs([{ _id: 'later', public: true }, { _id: 'later secret' }]);
  assert.equal((await local.replicate.from(remote)).docs_read, 1);
  await local.put({ ...await local.get('open'), n: 3 });
  await local.remove(await local.get('later'));
  assert.equal((await local.replicate.to(remote)).doc_write_failures, 0);
  assert.equal((await db.get('open')).n, 3);
  await assert.rejects(db.get('later'), { reason: 'deleted' });
});

test('nothing is written to what is hidden, and nothing that would be', async t => {
  const h = hub(), [alice, bob] = await Promise.all([1, 2].map(() => join(t, h))), { db, hidden } = await mixed();
  const r = await bob.open((await alice.share(db, { filter: d => d.public === true })).id), remote = client(r);
  const before = await db.allDocs({ include_docs: true });
  const outside = { status: 403, reason: 'This share is limited to other documents.' };
  await assert.rejects(remote.put({ _id: 'new', n: 1 }), outside);
  await assert.rejects(remote.put({ _id: 'secret', public: true }), outside);
  await assert.rejects(remote.put({ _id: 'secret', _rev: hidden.secret, public: true }), { status: 409 });
  await assert.rejects(remote.remove('secret', hidden.secret), { status: 404 });
  await assert.rejects(remote.putAttachment('secret', 'g', hidden.secret, Buffer.from('g'), 'text/plain'), { status: 404 });
  await assert.rejects(remote.putAttachment('fresh', 'g', Buffer.from('g'), 'text/plain'), outside);
  await assert.rejects(remote.removeAttachment('secret', 'f', hidden.secret), { status: 404 });
  await assert.rejects(remote.put({ _id: 'thief', public: true, _attachments: { f: { stub: true, digest: hidden.digest, length: 9, revpos: 1, content_type: 'text/plain' } } }), { status: 412 });
  const replicated = await r.fetch(r.url + '/_bulk_docs', { method: 'POST', body: JSON.stringify({ new_edits: false, docs: [
    { _id: 'secret', _rev: '9-z', public: true }, { _id: 'secret', _rev: '9-d', _deleted: true }, { _id: 'both', _rev: '3-c', public: true, _revisions: { start: 3, ids: ['c', 'b', 'x'] } },
  ] }) });
  assert.deepEqual((await replicated.json()).map(x => x.error), ['forbidden', 'forbidden', 'forbidden']);
  assert.deepEqual(await db.allDocs({ include_docs: true }), before);
});

test('doc ids limit a share, too', async t => {
  const h = hub(), [alice, bob] = await Promise.all([1, 2].map(() => join(t, h))), { db, hidden } = await mixed();
  const r = await bob.open((await alice.share(db, { docIds: ['open', 'not yet'] })).id), remote = client(r), local = pouch();
  assert.deepEqual((await remote.allDocs({ include_docs: true })).rows.map(x => x.id), ['open']);
  await assert.rejects(remote.get('secret'), { status: 404 });
  assert.equal((await local.replicate.from(remote)).docs_written, 1);
  await remote.put({ _id: 'not yet' });
  await assert.rejects(remote.put({ _id: 'other' }), { status: 403 });
  await assert.rejects(remote.put({ _id: 'not yet', _rev: (await remote.get('not yet'))._rev, _attachments: { f: { stub: true, digest: hidden.digest, length: 9, revpos: 2, content_type: 'text/plain' } } }), { status: 412 });
});

test('a peer may have so many requests under way', async t => {
  const h = hub(), [alice, bob, carol] = await Promise.all([1, 2, 3].map(() => join(t, h)));
  let asked = 0, release;
  const held = new Promise(resolve => { release = resolve; });
  const { id } = await alice.share(pouch(), { maxRequests: 2, requests: { wait: () => (asked++, held) } }), r = await bob.open(id);
  const custom = await r.custom(), answers = [1, 2].map(() => custom.request('wait'));
  await eventually(() => asked === 2);
  assert.equal(await ask(r), '429 Too many requests are under way.');
  assert.equal(await ask(await carol.open(id)), '200');
  release(1);
  assert.deepEqual(await Promise.all(answers), [1, 1]);
  assert.equal(await ask(r), '200');
});
