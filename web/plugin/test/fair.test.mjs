// A peer that takes much keeps nobody else out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newSignal } from '../lib/documents.js';
import { randomHex } from '../lib/encoding.js';
import { Places, yields } from '../lib/fair.js';
import { Identity } from '../lib/identity.js';
import { Incoming } from '../lib/incoming.js';
import { payload } from '../lib/negotiation.js';
import { eventually, FakeRTCPeerConnection, hub, join, pouch } from './support.mjs';

const claims = text => text.split(' ').map(c => ({ group: c[0], rank: Number(c[1] ?? 0) }));

test('whoever has most of a group after it gives way, the lower rank first', () => {
  for (const [held, first] of [['a b c', 0], ['b a a', 1], ['a b a b b', 1], ['a1 a1 a1 b', 3], ['a b1 b1 b1', 0], ['a', 0]]) {
    assert.equal(yields(claims(held)), first, held);
  }
});

test('places: a group loses its own oldest, and what is firm stays', () => {
  const out = [], places = new Places({ max: 6, each: 4, firm: 1 }), take = (name, rank = 0) => places.take(() => ({ group: name[0], rank }), () => out.push(name));
  for (const n of ['a1', 'a2', 'a3', 'a4', 'a5']) assert.ok(take(n));
  assert.deepEqual(out, ['a1']);
  const b = take('b1', 1);
  assert.ok(take('c1', 1) && take('d1'));
  assert.deepEqual(out, ['a1', 'a2']);
  for (const n of ['e1', 'f1']) assert.ok(take(n, 1));
  assert.deepEqual(out, ['a1', 'a2', 'a3', 'a4']);
  assert.ok(take('g1', 1)); // strangers gave way
  assert.ok(take('h1', 1));
  assert.equal(take('i1', 1), undefined); // all are firm now
  assert.equal(take('x1'), undefined);
  b.leave();
  b.leave();
  assert.ok(take('x1'));
  const slow = new Places({ max: 9, each: 1, settle: 60_000 });
  assert.ok(slow.take(() => ({ group: 'a', rank: 0 }), () => {}) && !slow.take(() => ({ group: 'a', rank: 0 }), () => {}));
});

/** An evil opener, with as many processes as it likes to say, whose offers lead nowhere. Its signals are good. */
async function attack(evil, peer, share, n) {
  const doc = await peer.hub.get('share:' + share), to = `${doc.peer}.${doc.instance}`, sdp = 'v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=fake:0\r\n';
  const offers = Array.from({ length: n }, async () => newSignal(evil, { from: `${evil.id}.${randomHex(8)}`, to, session: randomHex(16), kind: 'offer', payload: payload({ sdp, time: Date.now() }) }, 0, doc.keys.seal, Date.now()));
  await peer.hub.write(await Promise.all(offers));
}

test('a peer that begins many negotiations, from many processes, keeps nobody out', async t => {
  const h = hub(), alice = await join(t, h, { timeout: 30_000 }), db = pouch(), evil = await Identity.create();
  const { id } = await alice.share(db), before = FakeRTCPeerConnection.made, bob = await join(t, h);
  await attack(evil, bob, id, 150);
  const half = () => [...alice.transport.peers.values()].filter(p => p.attempt).length;
  await eventually(() => half() > 8);
  const begin = Date.now(), r = await bob.open(id);
  assert.equal((await r.fetch(r.url)).status, 200);
  assert.ok(Date.now() - begin < 8000, `${Date.now() - begin} ms`); // without the defence it waits for time-outs of 30 s
  assert.ok(half() <= 17, `${half()} half-open ones`);
  assert.ok(FakeRTCPeerConnection.made - before < 100, `${FakeRTCPeerConnection.made - before} connections`);
});

/** A transport that makes links of offers at once. */
function transport(maxPeers) {
  const peers = new Map(), made = [], byes = [];
  return {
    made, byes, config: { maxPeers }, peer: a => peers.get(a) ?? peers.set(a, { offered: 0 }).get(a),
    negotiation: (peer, session, offer) => ({ peer, session, offer, cancel(why) { this.why = why; this.fail(why); } }),
    start(p, n) {
      const a = { negotiation: n, link: new Promise((resolve, fail) => { n.resolve = resolve; n.fail = fail; }) };
      a.link.catch(() => p.attempt = undefined);
      made.push(n);
      return a;
    },
    async bye(to) { byes.push(to); await new Promise(() => {}); },
  };
}
const offer = (from, time = 1) => ({ from, to: 'me', session: 's' + from, kind: 'offer', message: { time, sdp: '' } });

test('a peer takes no more than its part of the negotiations, links and refusals', async () => {
  const t = transport(40), closed = [], ranks = { friend: 1 }, incoming = new Incoming(t, () => {}, p => ranks[p] ?? 0);
  for (let i = 0; i < 30; i++) incoming.offer(offer(`eve.${i}`));
  assert.deepEqual([t.made.length, t.byes.length], [16, 4]); // the others are not even answered
  const up = async n => {
    n.resolve({ close: async why => closed.push([n.peer, why.message]), ended: new Promise(() => {}) });
    await new Promise(r => setImmediate(r));
  };
  for (const n of t.made.slice()) await up(n);
  for (let i = 30; i < 60; i++) { // and as links?
    incoming.offer(offer(`eve.${i}`));
    await up(t.made.at(-1));
  }
  assert.equal(closed.length, t.made.length - 40);
  incoming.offer(offer('bob.1'));
  await up(t.made.at(-1));
  incoming.offer(offer('friend.1'));
  await up(t.made.at(-1));
  assert.ok(closed.every(([p, why]) => p.startsWith('eve.') && why === 'it has too many connections'));
  assert.deepEqual([closed.length, t.made.at(-2).peer, t.made.at(-1).peer], [t.made.length - 40, 'bob.1', 'friend.1']);
  for (let i = 0; i < 200; i++) incoming.offer(offer(`mob${i}.1`)); // nor do many peers a known one
  assert.ok(!closed.some(([p]) => p === 'friend.1'));
});
