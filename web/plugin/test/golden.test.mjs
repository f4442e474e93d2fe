// The vectors that Go wrote (share/golden_test.go), and those that these tests write for Go: LOVESEAT_GOLDEN=1.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { canonical, newSignal, openSignal, readShare, shareID, shareNonce, sign } from '../lib/documents.js';
import { canonicalJSON, fromBase64, text, utf8 } from '../lib/encoding.js';
import { Identity } from '../lib/identity.js';

const golden = name => new URL(`golden/${name}`, import.meta.url);
const read = name => JSON.parse(readFileSync(golden(name)));
const g = read('share.json');

const url64 = s => s.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
async function pair(crv, d, x, usages) {
  const key = (jwk, use) => crypto.subtle.importKey('jwk', { kty: 'OKP', crv, x: url64(x), ...jwk }, crv, true, use);
  const signs = crv === 'Ed25519';
  return { privateKey: await key({ d: url64(d) }, usages), publicKey: await key({}, signs ? ['verify'] : []) };
}
const id = await Identity.of({
  sign: await pair('Ed25519', g.sign, g.keys.sign, ['sign']),
  seal: await pair('X25519', g.seal, g.keys.seal, ['deriveBits']),
});

test('the identity is that of Go', () => {
  assert.equal(id.id, g.peer);
  assert.deepEqual(id.keys, g.keys);
});

test('nonces and share ids', async () => {
  for (const [db, nonce] of Object.entries(g.nonces)) assert.equal(await shareNonce(db), nonce, db);
  for (const [nonce, want] of Object.entries(g.ids)) assert.equal(await shareID(g.peer, nonce), want);
});

test('what is signed is the same text', () => {
  for (const { id, doc, text: want } of g.docs) assert.equal(text(canonical({ ...doc, _id: id, _rev: '1-x' })), want);
});

test('a share of Go is read, and signed the same', async () => {
  const s = await readShare({ ...g.share, _rev: '3-x' });
  assert.equal(s.peer, g.peer);
  const { signature, ...unsigned } = g.share;
  assert.equal((await sign(id, unsigned)).signature, signature);
});

test('what Go refuses is refused', async () => {
  for (const { why, doc } of g.refused) await assert.rejects(readShare(doc), undefined, why);
});

test('a signal of Go is opened, at its time and by its recipient alone', async () => {
  const at = Date.parse(g.signal.time);
  const { signal, doc } = await openSignal(id, g.signal, at + 1000);
  assert.equal(text(signal.payload), g.payload);
  assert.equal(doc.seq, 3);
  await assert.rejects(openSignal(id, g.signal, at + 121_000), /stale/);
  await assert.rejects(openSignal(id, { ...g.signal, seq: 4 }, at), /verify/);
  await assert.rejects(openSignal(id, { ...g.signal, _id: g.signal._id.replace(/.$/, 'x') }, at), /verify/);
  await assert.rejects(openSignal(await Identity.create(), g.signal, at));
  const other = await Identity.create(); // sends the sealed payload under its own name
  const { signature: _, ...stolen } = { ...g.signal, from: `${other.id}.j`, keys: other.keys };
  await assert.rejects(openSignal(id, await sign(other, stolen), at));
});

test('what JavaScript writes is read by Go', async () => {
  const path = golden('js.json');
  if (process.env.LOVESEAT_GOLDEN) {
    const to = `${id.id}.i`, payload = '{"v":1,"sdp":"v=0 €"}';
    const { signature: _, ...unsigned } = g.share;
    const share = await sign(id, { ...unsigned, name: 'of JavaScript', info: { x: [1e21, -0, 'é\u2028'], '\u{1f600}': 1, '\uff5e': 2 } });
    const signal = await newSignal(id, { to, from: to, session: 'golden', kind: 'offer', payload: utf8(payload) }, 0, id.keys.seal, 1700000000123);
    writeFileSync(path, JSON.stringify({ share, signal, payload }, null, 2) + '\n');
  }
  const js = read('js.json');
  await readShare(js.share);
  const { signal } = await openSignal(id, js.signal, Date.parse(js.signal.time));
  assert.equal(text(signal.payload), js.payload);
});

test('canonical JSON and base64', () => {
  assert.equal(canonicalJSON({ b: undefined, a: [undefined].length, 'é': { z: 1, y: null } }), '{"a":1,"é":{"y":null,"z":1}}');
  assert.deepEqual([...fromBase64('AP8=')], [0, 255]);
});
