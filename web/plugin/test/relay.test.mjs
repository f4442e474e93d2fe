// The hub's relay: Noise, and connections through it that move to a direct path.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { handshake } from '../lib/noise.js';
import { dh } from '../lib/hpke.js';
import { FakeRTCPeerConnection, eventually, hub, join, pouch } from './support.mjs';

const bytes = s => new TextEncoder().encode(s);

async function party(initiator, own, other, prologue = 'p') {
  return { initiator, prologue: bytes(prologue), own: own.raw, agree: pub => dh(own.pair.privateKey, pub), other: other.raw };
}

async function key() {
  const pair = await crypto.subtle.generateKey('X25519', false, ['deriveBits']);
  return { pair, raw: new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)) };
}

/** Two ends of a channel of messages. */
function ends() {
  const end = () => ({ inbox: [], wake() {}, async receive() { while (!this.inbox.length) await new Promise(go => this.wake = go); return this.inbox.shift(); } });
  const a = end(), b = end();
  const send = to => m => { to.inbox.push(m); to.wake(); };
  return [[send(b), () => a.receive()], [send(a), () => b.receive()]];
}

test('a handshake gives both sides the same keys, which only the two have', async () => {
  const [a, b, c] = [await key(), await key(), await key()], [atA, atB] = ends();
  const [i, r] = await Promise.all([handshake(await party(true, a, b), ...atA), handshake(await party(false, b, a), ...atB)]);
  for (const text of ['one', 'two', '']) {
    assert.deepEqual(await r.receive.decrypt(await i.send.encrypt(bytes(text))), bytes(text));
    assert.deepEqual(await i.receive.decrypt(await r.send.encrypt(bytes(text))), bytes(text));
  }
  await i.send.encrypt(bytes('m'));
  const n = await i.send.encrypt(bytes('n'));
  await assert.rejects(r.receive.decrypt(n)); // out of order
  for (const [x, y] of [[await party(true, c, b), await party(false, b, a)], [await party(true, a, b, 'other'), await party(false, b, a)]]) {
    const [one, two] = ends();
    const answered = handshake(y, ...two);
    void handshake(x, ...one).catch(() => {});
    await assert.rejects(answered);
  }
});

/** A hub's relay in this process: tickets, and WebSockets that are joined by session. */
function relay(t, h) {
  const tickets = new Map(), waiting = new Map(), seen = [];
  const plain = h;
  const fetch = async (path, init) => {
    if (path === '../') return Response.json({ couchdb: 'Welcome', vendor: { name: 'Loveseat' } });
    if (path === '../_ice') return Response.json({ iceServers: [], ttl: 60 });
    if (path !== '_relay') return plain(path, init);
    const ticket = `t${tickets.size}`;
    tickets.set(ticket, JSON.parse(init.body).session);
    return Response.json({ ticket, ttl: 30 });
  };
  class FakeWebSocket {
    static OPEN = 1;
    readyState = 0; bufferedAmount = 0; early = [];
    constructor(url) {
      this.url = new URL(url);
      const session = tickets.get(this.url.searchParams.get('ticket')), other = waiting.get(session);
      if (other) [this.other, other.other] = [other, this];
      else waiting.set(session, this);
      setImmediate(() => {
        this.readyState = 1;
        this.onopen?.();
        for (const m of this.other?.early.splice(0) ?? []) this.other.deliver(m);
        for (const m of this.early.splice(0)) this.deliver(m);
      });
    }
    send(m) { const data = m.slice().buffer; seen.push(Buffer.from(data)); if (this.other?.readyState === 1) this.deliver(data); else this.early.push(data); }
    deliver(data) { setImmediate(() => this.other.onmessage?.({ data: FakeWebSocket.tamper?.(data) ?? data })); }
    close() { for (const w of [this, this.other]) if (w && w.readyState < 3) { w.readyState = 3; setImmediate(() => w.onclose?.()); } }
  }
  globalThis.WebSocket = FakeWebSocket;
  t.after(() => delete globalThis.WebSocket);
  return { fetch, seen, FakeWebSocket };
}

/** A peer connection that never comes up. */
class Blocked extends FakeRTCPeerConnection { meet() {} }

const get = async r => (await (await r.fetch(r.url + '/a')).json()).secret;

test('peers between which there is no path talk through the hub, which reads nothing, and move to a direct path', async t => {
  const { fetch, seen } = relay(t, hub());
  let blocked = true;
  class Path extends FakeRTCPeerConnection { meet() { if (!blocked) super.meet(); } }
  const [alice, bob] = [await join(t, fetch, { RTCPeerConnection: Path }), await join(t, fetch, { RTCPeerConnection: Path, timeout: 6000 })], db = pouch();
  await db.put({ _id: 'a', secret: 'hush hush', text: 'x'.repeat(300_000) });
  const r = await bob.open((await alice.share(db)).id);
  assert.equal(await get(r), 'hush hush');
  assert.deepEqual([bob.peers()[0].route, alice.peers()[0].route, alice.serving()[0].openers[0].route], ['hub', 'hub', 'hub']);
  assert.ok(seen.length > 5 && !Buffer.concat(seen).includes('hush'));
  blocked = false;
  await eventually(async () => await get(r) && bob.peers().length === 1 && bob.peers()[0].route !== 'hub', 30_000);
  const n = seen.length;
  assert.equal(await get(r), 'hush hush');
  assert.equal(seen.length, n);
});

test('what is changed on the way ends the connection', async t => {
  const { fetch, FakeWebSocket } = relay(t, hub());
  const o = { RTCPeerConnection: Blocked, relay: 'hub' }, [alice, bob] = [await join(t, fetch, o), await join(t, fetch, o)], db = pouch();
  await db.put({ _id: 'a', secret: 1 });
  const r = await bob.open((await alice.share(db)).id);
  assert.equal(await get(r), 1);
  const closed = bob.transport.links()[0].ended;
  FakeWebSocket.tamper = data => { const b = new Uint8Array(data.slice(0)); b[b.length - 1] ^= 1; return b.buffer; };
  const failed = r.fetch(r.url + '/a', { method: 'PUT', body: '{}' }).catch(e => e);
  assert.match(String(await Promise.race([closed, failed])), /not what the peer sent|lost|reset|closed/);
  FakeWebSocket.tamper = undefined;
  assert.equal(await get(r), 1); // over a new connection
});

/** An X25519 pair of its 32 private bytes. */
async function pairOf(base64) {
  const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), Buffer.from(base64, 'base64')]);
  const privateKey = await crypto.subtle.importKey('pkcs8', pkcs8, 'X25519', true, ['deriveBits']);
  const { x } = await crypto.subtle.exportKey('jwk', privateKey);
  const raw = new Uint8Array(Buffer.from(x, 'base64url'));
  return { raw, pair: { privateKey, publicKey: await crypto.subtle.importKey('raw', raw, 'X25519', true, []) } };
}

test('both sides of a handshake and all messages are byte for byte those of Go', async () => {
  const v = JSON.parse(readFileSync(new URL('golden/noise.json', import.meta.url)));
  const pairs = {};
  for (const k of ['initiatorStatic', 'responderStatic', 'initiatorEphemeral', 'responderEphemeral']) pairs[k] = await pairOf(v[k]);
  const of = b64 => new Uint8Array(Buffer.from(b64, 'base64')), [atA, atB] = ends(), sent = [];
  const noting = ([send, receive]) => [m => { sent.push(Buffer.from(m).toString('base64')); send(m); }, receive];
  const side = async (initiator, own, other, ephemeral) => ({ ...await party(initiator, pairs[own], pairs[other], v.prologue), ephemeral: pairs[ephemeral].pair });
  const [i, r] = await Promise.all([
    handshake(await side(true, 'initiatorStatic', 'responderStatic', 'initiatorEphemeral'), ...noting(atA)),
    handshake(await side(false, 'responderStatic', 'initiatorStatic', 'responderEphemeral'), ...noting(atB)),
  ]);
  assert.deepEqual(sent, v.handshake);
  for (const [from, want] of [[i.send, v.fromInitiator], [r.send, v.fromResponder]]) {
    for (const [n, m] of want.entries()) assert.equal(Buffer.from(await from.encrypt(of(v.plaintexts[n]))).toString('base64'), m);
  }
});
