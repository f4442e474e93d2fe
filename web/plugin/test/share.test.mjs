// Two and more peers over a hub and peer connections in memory.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sign } from '../lib/documents.js';
import { Identity } from '../lib/identity.js';
import { Negotiation } from '../lib/negotiation.js';
import { FakeRTCPeerConnection, client, eventually, hub, join, pouch } from './support.mjs';

const refused = r => r.fetch(r.url).then(async a => `${a.status} ${(await a.json()).reason}`);

test('a share is listed, opened, read, written and ended', async t => {
  const h = hub(), alice = await join(t, h), bob = await join(t, h), db = pouch('notes'), told = [], events = [];
  bob.watch(c => told.push(`${c.kind} ${c.share.name}`));
  await db.put({ _id: 'a', n: 1 });
  const s = await alice.share(db, { name: 'Nötes', info: { x: 1 }, onEvent: e => events.push(e.kind) });
  assert.deepEqual([s.own, s.access, s.docCount, s.info, s.link], [true, 'read-write', 1, { x: 1 }, `http://hub/hub/share:${s.id}`]);
  await eventually(() => told.join() === 'new Nötes');
  const [listed] = await bob.shares();
  assert.deepEqual([listed.id, listed.own, listed.peer, listed.dbname], [s.id, false, alice.id, `loveseat://${s.id}`]);
  for (const ref of [s.id, s.dbname, s.link, 'Nötes']) assert.equal((await bob.open(ref)).id, s.id);
  const r = await bob.open(s.link), remote = client(r);
  assert.equal((await remote.get('a')).n, 1);
  await remote.put({ _id: 'b' });
  assert.equal((await db.get('b'))._id, 'b');
  assert.deepEqual(alice.peers().map(p => [p.peer, p.incoming]), [[bob.id, true]]);
  assert.deepEqual(alice.serving()[0].openers.map(o => o.peer), [bob.id]);
  await assert.rejects(alice.share(db), { status: 412 });
  await assert.rejects(alice.open(s.id), { status: 409 });
  r.close();
  await assert.rejects(remote.get('a'), /closed/);
  await eventually(() => events.join() === 'opened,closed');
  await alice.unshare(db);
  await eventually(() => told.join() === 'new Nötes,gone Nötes');
  await assert.rejects(bob.open('Nötes'), { status: 404 });
});

test('the same database has the same id again, and another peer another', async t => {
  const h = hub(), identity = await Identity.create(), db = pouch();
  const first = await join(t, h, { identity });
  const { id } = await first.share(db);
  await first.close();
  const second = await join(t, h, { identity });
  assert.equal((await second.share(db)).id, id);
  const third = await join(t, h);
  assert.notEqual((await third.share(db)).id, id);
});

test('the same database shared to others has another id, and one that leaves nobody out keeps it', async t => {
  const h = hub(), identity = await Identity.create(), db = pouch(), ids = [];
  const [ann, bob] = (await Promise.all([1, 2].map(() => Identity.create()))).map(i => i.id), onRemote = () => {};
  const options = [{ allow: [ann] }, { allow: [ann] }, { allow: [bob, ann] }, { allow: [bob] }, { onRemote }, {}, {}, { allow: [bob] }, { allow: [bob], invited: true }];
  for (const o of options) {
    const p = await join(t, h, { identity });
    ids.push((await p.share(db, o)).id);
    await assert.rejects(p.share(db, { allow: [(await Identity.create()).id] }), { status: 412 }); // and notes no other audience
    await p.close();
  }
  assert.deepEqual(ids.map((id, i) => id === ids[i - 1]), [false, true, true, false, false, true, true, false, true]);
  assert.equal(new Set(ids).size, 4);
  const first = await join(t, h, { identity }), second = await join(t, h, { identity }), events = [];
  await first.share(db, { onEvent: e => events.push(e) });
  await second.share(db, { allow: [ann] });
  first.served(db).renewSoon();
  await eventually(() => events.some(e => e.kind === 'ended' && e.error?.name === 'taken_over'));
});

test('refusals tell their reason, and are remembered while the peer stays', async t => {
  const h = hub(), alice = await join(t, h), asked = [], db = pouch(), events = [];
  const s = await alice.share(db, {
    onEvent: e => events.push(e.kind),
    onRemote: async e => {
      asked.push(e.peer);
      await Promise.resolve();
      if (asked.length === 1) e.preventDefault('Not today.');
      if (asked.length === 2) throw new Error('broken');
      if (asked.length === 3) e.preventDefault();
    },
  });
  const peers = await Promise.all([1, 2, 3, 4].map(() => join(t, h)));
  const answers = [];
  for (const p of peers) answers.push(await refused(await p.open(s.id)));
  assert.deepEqual(answers, ['403 Not today.', '403 broken', '403 The sharer refuses.', '200 undefined']);
  assert.deepEqual(asked, peers.map(p => p.id));
  assert.deepEqual(events.filter(e => e !== 'closed'), ['refused', 'refused', 'refused', 'opened']);
});

test('live sync both ways, over the loss of the connection and of the hub', async t => {
  const h = hub(), alice = await join(t, h), bob = await join(t, h), db = pouch(), local = pouch();
  const s = await alice.share(db);
  const remote = client(await bob.open(s.id));
  const sync = local.sync(remote, { live: true, retry: true, back_off_function: () => 20 });
  sync.catch(() => {});
  const same = async n => eventually(async () => (await db.info()).doc_count === n && (await local.info()).doc_count === n, 10_000);
  await db.put({ _id: 'a1' });
  await local.put({ _id: 'b1' });
  await same(2);
  bob.transport.links()[0].pc.close(); // as a network that goes away
  alice.transport.links()[0].pc.close();
  await db.put({ _id: 'a2' });
  await local.put({ _id: 'b2' });
  await same(4);
  h.down = true;
  await db.put({ _id: 'a3' });
  await same(5); // the hub is not needed for what is connected
  h.down = false;
  sync.cancel();
});

test('a sharer that has moved is found again', async t => {
  const h = hub(), identity = await Identity.create(), db = pouch(), bob = await join(t, h);
  const first = await join(t, h, { identity });
  const s = await first.share(db), r = await bob.open(s.id);
  assert.equal(await refused(r), '200 undefined');
  const second = await join(t, h, { identity }); // the page was loaded again before it could say goodbye
  await second.share(db);
  await eventually(() => r.info?.published > s.published);
  assert.equal(await refused(r), '200 undefined');
  assert.equal(second.peers().length, 1);
});

test('requests are aborted, fail when the share is gone, and wait for a sharer that does not answer', async t => {
  const h = hub(), alice = await join(t, h), bob = await join(t, h), db = pouch();
  const s = await alice.share(db), r = await bob.open(s.id);
  const stop = new AbortController();
  const feed = r.fetch(`${r.url}/_changes?feed=longpoll&since=now`, { signal: stop.signal }).then(a => a.text());
  feed.catch(() => {});
  await eventually(() => alice.serving()[0].openers.length === 1);
  stop.abort();
  await assert.rejects(feed, { name: 'AbortError' });
  await eventually(() => bob.transport.links()[0].session.streams.size === 0);
  await assert.rejects(r.fetch(r.url, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  await alice.unshare(db);
  await eventually(() => !bob.find(s.id));
  await assert.rejects(r.fetch(r.url), { name: 'gone' });
});

test('many requests at once share the connections, and free them', async t => {
  const h = hub(), alice = await join(t, h), bob = await join(t, h), db = pouch();
  await db.put({ _id: 'a', text: 'x'.repeat(5000) });
  const r = await bob.open((await alice.share(db)).id);
  const answers = await Promise.all(Array.from({ length: 200 }, () => r.fetch(`${r.url}/a`).then(a => a.json())));
  assert.ok(answers.every(a => a._id === 'a'));
  assert.ok(r.conns.size <= 32 && r.idle.length <= 8, `${r.conns.size} ${r.idle.length}`);
  assert.equal(FakeRTCPeerConnection.made > 0 && bob.peers().length, 1);
});

test('two peers that open each other at the same time share one connection', async t => {
  for (let i = 0; i < 5; i++) {
    const h = hub(), alice = await join(t, h), bob = await join(t, h);
    const [a, b] = [await alice.share(pouch()), await bob.share(pouch())];
    const [toB, toA] = [await alice.open(b.id), await bob.open(a.id)];
    assert.deepEqual(await Promise.all([refused(toB), refused(toA)]), ['200 undefined', '200 undefined']);
    await eventually(() => alice.peers().length === 1 && bob.peers().length === 1);
  }
});

test('a lease that is not renewed ends, and a document that someone deletes comes back', async t => {
  const h = hub(), alice = await join(t, h, { lease: 300 }), bob = await join(t, h), db = pouch();
  const s = await alice.share(db);
  await eventually(() => bob.find(s.id)?.published > s.published);
  const doc = await h.db.get(`share:${s.id}`);
  await h.db.remove(doc);
  await eventually(async () => (await bob.shares()).length === 1 && bob.find(s.id).published > new Date(doc.published));
});

test('forged shares and signals change nothing', async t => {
  const h = hub(), alice = await join(t, h), bob = await join(t, h), db = pouch();
  const s = await alice.share(db);
  await bob.shares();
  const doc = await h.db.get(`share:${s.id}`), mallory = await Identity.create();
  const later = { ...doc, published: new Date(Date.now() + 1000).toISOString(), name: 'forged' };
  await h.db.put(later);
  await h.db.put({ ...await sign(mallory, { ...later, keys: mallory.keys }), _id: 'share:aaaaaaaaaaaaaaaaaaaaaaaaaa', _rev: undefined });
  for (const kind of ['offer', 'bye']) await h.db.put({ _id: `signal:${kind}`, type: 'signal', v: 1, to: `${alice.id}.${alice.instance}`, from: `${bob.id}.x`, kind });
  await h.db.put({ _id: 'signal:x', to: `${alice.id}.${alice.instance}` });
  await new Promise(r => setTimeout(r, 50));
  assert.equal(bob.find(s.id).name, s.name);
  assert.deepEqual((await bob.shares()).map(x => x.name), [s.name]);
  assert.equal(await refused(await bob.open(s.id)), '200 undefined');
});

test("the hub's STUN and TURN servers are used, and its proofs are signed by the device key", async t => {
  const h = hub(), proofs = [], servers = [{ urls: ['turn:x'], username: 'u', credential: 'c' }];
  const fetch = (path, init) => {
    proofs.push(new Headers(init?.headers).get('Loveseat-Peer'));
    return path === '../_ice' ? Promise.resolve(Response.json({ iceServers: servers, ttl: 600 })) : h(path, init);
  };
  const identity = await Identity.create(), alice = await join(t, h), bob = await join(t, fetch, { identity });
  assert.equal(await refused(await bob.open((await alice.share(pouch())).id)), '200 undefined');
  assert.deepEqual(bob.transport.links()[0].pc.config.iceServers, servers);
  await bob.unshare((await bob.share(pouch())).id);
  const shown = proofs.filter(Boolean).map(p => p.split(' '));
  assert.equal(new Set(shown.map(p => p[3])).size, shown.length, 'each proof has a nonce of its own');
  const bytes = p => Buffer.from(p, 'base64');
  for (const [version, key, at, nonce, purpose, origin, signature] of shown) {
    const method = { read: 'GET', claim: 'POST' }[purpose];
    const verify = await crypto.subtle.importKey('raw', bytes(key), 'Ed25519', false, ['verify']);
    assert.equal(version, 'v2');
    assert.equal(bytes(key).toString('base64'), identity.keys.sign);
    assert.match(nonce, /^[0-9a-f]{32}$/);
    assert.equal(origin, 'http://hub');
    assert.ok(Math.abs(at - Date.now()) < 10_000);
    const text = ['loveseat proof v2', 'http://hub', 'hub', method, purpose, at, nonce].join('\n');
    assert.ok(await crypto.subtle.verify('Ed25519', verify, bytes(signature), Buffer.from(text)), purpose);
  }
  assert.deepEqual([...new Set(shown.map(p => p[4]))].sort(), ['claim', 'read']);
});

test('signals are deleted when they have served', async t => {
  const h = hub(), alice = await join(t, h), bob = await join(t, h);
  await refused(await bob.open((await alice.share(pouch())).id));
  await eventually(async () => (await h.db.allDocs({ startkey: 'signal:', endkey: 'signal:~' })).rows.length === 0);
});

test('who shares nothing does not answer offers, and a peer that does not answer is given up', async t => {
  const h = hub(), alice = await join(t, h), bob = await join(t, h), hasty = await join(t, h, { timeout: 100 }), db = pouch();
  const s = await alice.share(db), address = `${alice.id}.${alice.instance}`;
  const keys = bob.directory.keys(alice.id) ?? (await bob.shares(), bob.directory.keys(alice.id));
  assert.ok(keys);
  bob.directory.keys = hasty.directory.keys = () => keys; // remember whom they once saw
  await alice.unshare(db);
  alice.transport.incoming = undefined;
  for (const a of [address, `${alice.id}.other`]) await assert.rejects(hasty.transport.dial(a), e => /answer|signal/.test(e.stage));
  assert.ok(s.id);
});

test('candidates before the description are kept, and more than 64 are not tried', async t => {
  const sent = [];
  const n = new Negotiation('p', 's', undefined, 1, {
    signaler: { send: async s => sent.push(s.kind) }, iceServers: async () => [], relayOnly: true, timeout: 500, RTCPeerConnection: FakeRTCPeerConnection });
  const done = n.run();
  done.catch(() => {});
  await eventually(() => sent.includes('offer'));
  const in_ = (kind, message) => n.receive({ from: 'p', to: 'me', session: 's', kind, message });
  in_('candidate', { candidates: Array(10).fill({ candidate: 'x' }) });
  assert.equal(n.pc.candidates, undefined);
  in_('answer', { sdp: 'a=fake:0' });
  await eventually(() => n.pc.candidates === 10);
  for (let i = 0; i < 10; i++) in_('candidate', { candidates: Array(10).fill({ candidate: 'x' }) });
  assert.equal(n.pc.candidates, 64);
  assert.equal(n.pc.config.iceTransportPolicy, 'relay');
  in_('bye', { reason: 'enough' });
  await assert.rejects(done, /refused by the peer: enough/);
  assert.equal(n.pc.connectionState, 'closed');
});

test('an older document of a sharer, written again, does not count; nor does an offer that was overtaken', async t => {
  const h = hub(), alice = await join(t, h), bob = await join(t, h), db = pouch();
  const s = await alice.share(db, { name: 'first' });
  const old = await h.db.get(`share:${s.id}`);
  await alice.unshare(db);
  const again = await alice.share(db, { name: 'second' });
  await eventually(() => bob.find(s.id)?.name === 'second');
  const there = await h.db.get(`share:${s.id}`);
  await h.db.put({ ...old, _rev: there._rev });
  await bob.shares();
  assert.equal(bob.find(s.id).name, 'second');
  assert.equal(again.id, s.id);

  const made = FakeRTCPeerConnection.made, { transport } = alice, me = `${alice.id}.${alice.instance}`;
  const offer = (session, time) => transport.config.signaler.onSignal({
    from: 'x.y', to: me, session, kind: 'offer', payload: new TextEncoder().encode(JSON.stringify({ v: 1, time, sdp: '\nm=application 9\na=fake:0' })) });
  offer('s1', 10);
  await eventually(() => FakeRTCPeerConnection.made === made + 1);
  offer('s0', 9);
  offer('s2', 10);
  await new Promise(r => setTimeout(r, 20));
  assert.equal(FakeRTCPeerConnection.made, made + 1);
});

test('of two offers that cross each other that of the lesser address counts', async t => {
  const h = hub(), [a, b] = [await join(t, h), await join(t, h)].sort((x, y) => x.id < y.id ? -1 : 1);
  const [ofA, ofB] = [await a.share(pouch()), await b.share(pouch())];
  const signals = [];
  h.db.changes({ live: true, since: 'now', include_docs: true }).on('change', c => c.doc?.kind === 'answer' && signals.push(c.doc.from)).catch(() => {});
  await Promise.all([a.shares(), b.shares()]);
  const [toB, toA] = [await a.open(ofB.id), await b.open(ofA.id)];
  await Promise.all([refused(toB), refused(toA)]);
  assert.deepEqual([a.peers().length, b.peers().length, a.peers()[0].incoming], [1, 1, false]);
  assert.deepEqual([...new Set(signals)], [`${b.id}.${b.instance}`]);
});

test('an aborted request that waits for a connection does not take the turn of another', async t => {
  const h = hub(), alice = await join(t, h), bob = await join(t, h), db = pouch();
  const r = await bob.open((await alice.share(db)).id), stop = new AbortController();
  const feeds = Array.from({ length: 32 }, () => r.fetch(`${r.url}/_changes?feed=longpoll&since=now`).then(a => a.json()));
  await eventually(() => r.conns.size === 32);
  const aborted = r.fetch(r.url, { signal: stop.signal }), waiting = r.fetch(r.url);
  stop.abort();
  await assert.rejects(aborted, { name: 'AbortError' });
  await db.put({ _id: 'a' });
  assert.equal((await waiting).status, 200);
  assert.ok((await Promise.all(feeds)).every(f => f.results.length === 1));
});
