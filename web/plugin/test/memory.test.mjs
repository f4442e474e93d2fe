// What a hostile peer can make a page hold: its wire sends what ours never would.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { couchHandler } from '../lib/couch.js';
import { concat, utf8 } from '../lib/encoding.js';
import { readAll } from '../lib/http1.js';
import { Held, serve } from '../lib/httpserver.js';
import { Session } from '../lib/yamux.js';
import { eventually, pouch } from './support.mjs';

setFlagsFromString('--expose_gc');
const gc = runInNewContext('gc');
const MB = 1 << 20;

/** Bytes in use, after a collection. */
async function used() {
  await new Promise(r => setImmediate(r));
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const DATA = 0, WINDOW = 1, SYN = 1, RST = 8;
function frame(type, flags, id, length, body = new Uint8Array()) {
  const f = new DataView(new ArrayBuffer(12));
  f.setUint8(1, type); f.setUint16(2, flags); f.setUint32(4, id); f.setUint32(8, length);
  return concat(new Uint8Array(f.buffer), body);
}

/** One message of as many frames with one byte of the text each as go into it. */
function crumbs(id, bytes) {
  const out = new Uint8Array(bytes.length * 13), v = new DataView(out.buffer);
  bytes.forEach((b, i) => {
    v.setUint32(i * 13 + 4, id);
    v.setUint32(i * 13 + 8, 1);
    out[i * 13 + 12] = b;
  });
  return out;
}
const perMessage = Math.floor((16 << 10) / 13);

/** A wire whose other end is the test. It keeps nothing, and takes nothing while it is full. */
function wire() {
  return {
    granted: 0, frames: 0, full: false, ended: undefined,
    send(f) { this.frames += f.length; if (f[1] === WINDOW && !(f[3] & RST)) this.granted += new DataView(f.buffer).getUint32(8); },
    waiting: [], room() { return this.full ? new Promise(go => this.waiting.push(go)) : undefined; },
    moved: () => 0, async close() {},
  };
}

function session(onStream = () => {}) {
  const w = wire(), s = new Session(w, false);
  s.onStream = onStream;
  s.start();
  return { w, s };
}

/** A page that serves a database to one link. */
async function page() {
  const db = pouch(), handle = couchHandler(db, { name: 'db', uuid: 'u', readOnly: false, peer: 'eve' }), held = new Held();
  const { w, s } = session(stream => void serve(stream, () => handle, held));
  return { db, w, s };
}

test('frames of one byte take about as much memory as they bring', async () => {
  const streams = [], { w } = session(s => streams.push(s)), before = await used(), size = MB / 4;
  for (let id = 1; id < 8; id += 2) {
    w.onData(frame(WINDOW, SYN, id, 0));
    for (let sent = 0; sent < size; sent += perMessage) w.onData(crumbs(id, new Uint8Array(Math.min(perMessage, size - sent)).fill(id)));
  }
  const held = await used() - before;
  assert.ok(held < 8 * MB, `${held >> 20} MB for one`);
  let sum = 0;
  for (let got = 0, c; got < size; got += c.length) sum += (c = await streams[2].read()).reduce((n, b) => n + b, 0);
  assert.equal(sum, 5 * size); // and all of it is there
});

test('all streams of a link together get a bounded window, and each one that moves on', async () => {
  const streams = [], { w, s } = session(x => streams.push(x)), before = await used();
  for (let i = 0; i < 128; i++) {
    w.onData(frame(WINDOW, SYN, 2 * i + 1, 0));
    for (const granted = 256 << 10; w.granted + granted;) { // as much as the peer may send
      const left = Math.min((256 << 10) + w.granted, 16 << 10);
      w.onData(frame(DATA, 0, 2 * i + 1, left, new Uint8Array(left)));
      w.granted -= left;
      if ((256 << 10) + w.granted <= 0) break;
    }
    w.granted = 0;
  }
  assert.ok(s.alive);
  const held = await used() - before;
  assert.ok(held > 40 * MB && held < 112 * MB, `${held >> 20} MB`); // 64 that came, and the room to join more to them
  for (let got = 0; got < 256 << 10;) got += (await streams[127].read()).length;
  assert.ok(w.granted >= 256 << 10, `${w.granted} more`);
});

test('half headers, byte by byte, on all streams of a link', async () => {
  const { w, s } = await page(), before = await used(), head = utf8('GET /db HTTP/1.1\r\n' + 'x: yyyyyyyyyyyyyyyyyyyyyyyy\r\n'.repeat(80));
  for (let i = 0; i < 128; i++) {
    w.onData(frame(WINDOW, SYN, 2 * i + 1, 0));
    for (let at = 0; at < head.length; at += perMessage) w.onData(crumbs(2 * i + 1, head.subarray(at, at + perMessage)));
  }
  const held = await used() - before;
  assert.ok(held < 8 * MB && s.alive, `${held >> 20} MB`);
});

test('a header has so many fields', async () => {
  const { w, s } = await page();
  const many = utf8('GET /db HTTP/1.1\r\n' + 'x: y\r\n'.repeat(300) + '\r\n');
  w.onData(frame(WINDOW, SYN, 7, 0));
  w.onData(frame(DATA, 0, 7, many.length, many));
  await eventually(() => !s.streams.has(7));
});

test('bodies that do not end are bounded per link, and those of others are read on', async () => {
  const { w, s } = await page(), before = await used(), piece = new Uint8Array(16 << 10);
  const begin = utf8('POST /db/_bulk_docs HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n');
  for (let i = 0; i < 128; i++) {
    w.onData(frame(WINDOW, SYN, 2 * i + 1, 0));
    w.onData(frame(DATA, 0, 2 * i + 1, begin.length, begin));
  }
  for (let round = 0; round < 800; round++) { // of 12.5 MB on each of 16: 200 MB
    for (let i = 0; i < 16; i++) if (s.streams.has(2 * i + 1)) w.onData(frame(DATA, 0, 2 * i + 1, piece.length, piece));
    await new Promise(r => setImmediate(r));
  }
  const held = await used() - before;
  assert.ok(held < 160 * MB, `${held >> 20} MB`);
  const { w: honest } = await page();
  let answered = '';
  honest.send = f => { answered += Buffer.from(f).toString('latin1'); };
  const ask = utf8('POST /db/_all_docs HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"keys":["x"]}'.replace('13', '14'));
  honest.onData(frame(WINDOW, SYN, 1, 0));
  honest.onData(frame(DATA, 0, 1, ask.length, ask));
  await eventually(() => answered.includes('not_found'));
});

test('one-byte chunks of a body are joined', async () => {
  const size = MB / 4, one = new Uint8Array(16 << 10), before = await used();
  const body = await readAll((async function* () { for (let i = 0; i < size; i++) yield one.slice(i % 7, i % 7 + 1); })(), 8 * MB);
  const held = await used() - before;
  assert.ok(body.length === size && held < 4 * MB, `${held >> 20} MB`);
});

test('answers that nobody takes are bounded per link', async () => {
  const { db, w, s } = await page();
  await db.put({ _id: 'big', text: 'x'.repeat(MB) });
  const before = await used(), get = utf8('GET /db/big HTTP/1.1\r\nHost: x\r\n\r\n');
  w.full = true;
  for (let i = 0; i < 128; i++) {
    w.onData(frame(WINDOW, SYN, 2 * i + 1, 0));
    w.onData(frame(DATA, 0, 2 * i + 1, get.length, get));
  }
  for (let i = 0; i < 300; i++) await new Promise(r => setTimeout(r, 2));
  const held = await used() - before;
  assert.ok(held > 4 * MB && held < 64 * MB && s.alive, `${held >> 20} MB`);
});

test('a peer that takes no answers is cut off before its frames pile up', () => {
  const { w, s } = session();
  w.full = true;
  for (let i = 0; s.alive && i < 1_000_000; i++) {
    w.onData(frame(WINDOW, SYN, 2 * i + 1, 0));
    w.onData(frame(WINDOW, RST, 2 * i + 1, 0));
  }
  assert.ok(!s.alive && w.frames < 2 * MB, `${w.frames} bytes`);
});

test('long answers are made while they are taken', async () => {
  const db = pouch(), handle = couchHandler(db, { name: 'db', uuid: 'u', readOnly: false, peer: 'eve' });
  await db.bulkDocs(Array.from({ length: 100 }, (_, i) => ({ _id: `d${i}`, text: `${i} `.repeat(50_000) })));
  const ids = Array.from({ length: 1000 }, (_, i) => `d${i % 100}`), before = await used(), answers = [];
  for (const [path, body] of [
    ['_all_docs?include_docs=true', { keys: ids }], ['_bulk_get', { docs: ids.map(id => ({ id })) }], ['_find', { selector: {}, limit: 1e9 }], ['_changes?include_docs=true', {}],
  ]) answers.push(await handle(new Request(`http://x/db/${path}`, { method: 'POST', body: JSON.stringify(body) })));
  const held = await used() - before;
  assert.ok(held < 60 * MB, `${held >> 20} MB`); // whole they have 300
  for (const a of answers) await a.body.cancel();
});
