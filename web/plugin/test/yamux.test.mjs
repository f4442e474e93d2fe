import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { channelLabel, channelProtocol } from '../lib/channel.js';
import { fromBase64, toBase64, utf8, concat } from '../lib/encoding.js';
import { readMessage } from '../lib/negotiation.js';
import { Session } from '../lib/yamux.js';
import { drain, eventually, wires } from './support.mjs';

const golden = JSON.parse(readFileSync(new URL('golden/wire.json', import.meta.url)));

function sessions(options) {
  const [a, b] = wires(options);
  return { a, b, client: new Session(a, true), server: new Session(b, false) };
}

/** A pair whose server echoes. */
function echo(options) {
  const p = sessions(options);
  p.server.onStream = async s => {
    try {
      for (let c; (c = await s.read());) await s.write(c);
      s.end();
    } catch { /* reset */ }
  };
  p.client.start();
  p.server.start();
  return p;
}

const silent = () => ({ sent: [], send(c) { this.sent.push(c); }, room() {}, moved: () => 0, async close() {} });

test("Go's client is understood", async () => {
  const wire = silent(), session = new Session(wire, false), streams = [];
  session.onStream = s => streams.push(s);
  session.start();
  for (const b of fromBase64(golden.client)) wire.onData(new Uint8Array([b])); // byte by byte
  assert.equal(String(await drain(streams[0])), 'hello');
});

test("Go's server is understood", async () => {
  const wire = silent(), session = new Session(wire, true).start(), s = session.open();
  await s.write(utf8('hello'));
  s.end();
  wire.onData(fromBase64(golden.server));
  assert.equal(String(await drain(s)), 'world');
});

test('what JavaScript sends is understood by Go', async () => {
  const wire = silent(), s = new Session(wire, true).start().open();
  await s.write(utf8('hello'));
  s.end();
  const path = new URL('golden/js-wire.json', import.meta.url), client = toBase64(concat(...wire.sent));
  if (process.env.LOVESEAT_GOLDEN) writeFileSync(path, JSON.stringify({ client }) + '\n');
  assert.equal(JSON.parse(readFileSync(path)).client, client);
});

test('the channel and its messages are those of Go', () => {
  assert.deepEqual([channelLabel, channelProtocol], [golden.label, golden.protocol]);
  for (const { kind, payload, ok } of golden.messages) {
    const read = () => readMessage({ to: 'a', from: 'b', session: 's', kind, payload: utf8(payload) });
    if (ok) read();
    else assert.throws(read, undefined, `${kind} ${payload.slice(0, 100)}`);
  }
});

test('megabytes pass through small windows and pieces, both ways at once', async () => {
  const { client } = echo({ piece: 1000 });
  const size = 3 << 20, data = new Uint8Array(size).map((_, i) => i * 7 + (i >> 8));
  await Promise.all([1, 2].map(async () => {
    const s = client.open(), back = drain(s);
    for (let at = 0; at < size; at += 100_000) await s.write(data.subarray(at, at + 100_000));
    s.end();
    assert.ok((await back).equals(data));
  }));
});

test('a writer waits for a reader that does not read, and others go on', async () => {
  const { client, server } = sessions();
  const streams = [];
  server.onStream = s => streams.push(s);
  client.start();
  server.start();
  const slow = client.open(), fast = client.open();
  let written = 0;
  const writing = (async () => { for (;;) { await slow.write(new Uint8Array(64 << 10)); written += 64 << 10; } })().catch(() => {});
  await eventually(() => written >= 1 << 20);
  await fast.write(utf8('quick'));
  fast.end();
  await eventually(() => streams.length === 2);
  assert.equal(String(await drain(streams[1])), 'quick');
  assert.ok(written <= (2 << 20), `${written} bytes were taken without a reader`);
  slow.reset();
  await writing;
  await eventually(() => streams[0].done);
  await assert.rejects(streams[0].read(), /reset/);
});

test('the end of one direction leaves the other', async () => {
  const { client, server } = sessions();
  const got = new Promise(r => server.onStream = async s => { r(String(await drain(s))); await s.write(utf8('late')); s.end(); });
  client.start();
  server.start();
  const s = client.open();
  await s.write(utf8('x'));
  s.end();
  await assert.rejects(s.write(utf8('y')), /ended/);
  assert.equal(await got, 'x');
  assert.equal(String(await drain(s)), 'late');
  assert.equal(await s.read(), undefined);
});

test('a lost wire fails every stream and ping', async () => {
  const { a, client } = echo();
  const s = client.open(), read = s.read();
  let ended = 0, told = 0;
  s.onEnd = () => ended++;
  client.onEnd = () => told++;
  a.stop(new Error('cut'));
  await assert.rejects(read, /cut/);
  await assert.rejects(s.write(utf8('x')), /cut/);
  assert.deepEqual([ended, told, client.alive], [1, 1, false]);
  assert.throws(() => client.open(), /cut/);
});

test('pings are answered, and too many end the session', async () => {
  const { client, server } = echo();
  await client.ping();
  for (let i = 0; i < 200; i++) void client.ping();
  await eventually(() => !server.alive);
});

test('after go away no stream is opened, and those there are go on', async () => {
  const { client, server } = echo();
  const s = client.open();
  await s.write(utf8('before'));
  server.goAway();
  await eventually(() => !client.alive);
  assert.throws(() => client.open(), /closed/);
  await s.write(utf8(' and after'));
  s.end();
  assert.equal(String(await drain(s)), 'before and after');
});

const frame = (type, flags, id, length, body = []) => {
  const f = new DataView(new ArrayBuffer(12));
  f.setUint8(1, type); f.setUint16(2, flags); f.setUint32(4, id); f.setUint32(8, length);
  return concat(new Uint8Array(f.buffer), Uint8Array.from(body));
};

test('what breaks the protocol ends the session', () => {
  const bad = {
    'a version': [concat(new Uint8Array([1]), frame(0, 0, 1, 0).subarray(1))],
    'a type': [frame(4, 0, 1, 0)],
    'our stream number': [frame(1, 1, 2, 0)],
    'a stream number twice': [frame(1, 1, 1, 0), frame(1, 1, 1, 0)],
    'more than the window': [frame(1, 1, 1, 0), ...Array(40).fill(0).map(() => frame(0, 0, 1, 64 << 10, new Uint8Array(64 << 10)))],
    'data after the end': [frame(1, 1 | 4, 1, 0), frame(0, 0, 1, 1, [0])],
  };
  for (const [what, frames] of Object.entries(bad)) {
    const wire = silent(), session = new Session(wire, false);
    session.onStream = () => {};
    session.start();
    for (const f of frames) wire.onData(f);
    assert.equal(session.alive, false, what);
  }
});

test('a peer has at most 128 streams open, and their numbers are given back', async () => {
  const { client, server, b } = sessions();
  const open = new Set();
  server.onStream = s => open.add(s);
  client.start();
  server.start();
  const ours = Array.from({ length: 130 }, () => client.open());
  await eventually(() => ours.filter(s => s.done).length === 2);
  assert.equal(open.size, 128);
  for (const s of ours) s.close();
  for (const s of open) s.close();
  await eventually(() => ours.every(s => s.done));
  client.open();
  await eventually(() => open.size === 129);
  assert.ok(!b.ended);
});

test('data for a stream that has gone is dropped', async () => {
  const { client, server } = echo();
  const s = client.open();
  await s.write(new Uint8Array(100_000));
  s.reset();
  const again = client.open();
  await again.write(utf8('still there'));
  again.end();
  assert.equal(String(await drain(again)), 'still there');
  assert.ok(server.alive);
});
