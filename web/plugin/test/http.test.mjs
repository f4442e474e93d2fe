import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { text, utf8 } from '../lib/encoding.js';
import { exchange, Reader } from '../lib/http1.js';
import { serve } from '../lib/httpserver.js';
import { Session } from '../lib/yamux.js';
import { drain, eventually, wires } from './support.mjs';

/** A stream to a server with the given handler. */
function connect(handler, options) {
  const [a, b] = wires(options);
  const client = new Session(a, true).start(), server = new Session(b, false);
  server.onStream = s => void serve(s, () => handler);
  server.start();
  const stream = client.open();
  return { stream, reader: new Reader(stream), cut: () => a.stop(new Error('cut')) };
}

/** Makes one request. */
async function call(c, method, target, { body, headers = {} } = {}) {
  let free = false;
  const r = await exchange(c.stream, c.reader, { method, target, host: 'x', headers: new Headers(headers), body }, () => free = true);
  return { r, free: () => free };
}

/** What a server answers to raw bytes. */
async function raw(handler, request) {
  const { stream } = connect(handler);
  await stream.write(utf8(request));
  return drain(stream).then(String, e => e.message);
}

const ok = async () => new Response('{"ok":true}', { headers: { 'Content-Type': 'application/json' } });

test('requests follow each other on a connection, of all shapes', async () => {
  const seen = [];
  const c = connect(async q => {
    const body = await q.text();
    seen.push([q.method, new URL(q.url).pathname + new URL(q.url).search, body, q.headers.get('x-a')]);
    if (q.method === 'DELETE') return new Response(null, { status: 204 });
    if (q.method === 'PUT') return new Response(body, { status: 201, headers: { 'Content-Length': String(utf8(body).length) } });
    return ok();
  }, { piece: 99 });
  const big = 'ü☃'.repeat(50_000);
  for (const [method, body] of [['GET'], ['PUT', 'short'], ['HEAD'], ['DELETE'], ['PUT', big], ['POST', ''], ['GET']]) {
    const { r, free } = await call(c, method, '/a%20b?x=%26', { body: body === undefined ? undefined : utf8(body), headers: { 'X-A': '1' } });
    const answer = await r.text();
    if (method === 'PUT') assert.ok(answer === body && r.status === 201);
    await eventually(free);
  }
  assert.equal(seen.length, 7);
  assert.deepEqual(seen[0], ['GET', '/a%20b?x=%26', '', '1']);
  assert.ok(seen[4][2] === big);
});

test('long JSON is compressed for who takes it, feeds are not', async () => {
  const long = JSON.stringify(Array(1000).fill('again'));
  const c = connect(async q => new URL(q.url).pathname === '/feed' ? new Response(long) :
    new Response(long, { headers: { 'Content-Type': 'application/json', 'Content-Length': String(long.length) } }));
  for (const path of ['/', '/feed']) {
    const { r, free } = await call(c, 'GET', path, { headers: { 'Accept-Encoding': 'gzip' } });
    assert.equal(await r.text(), long);
    await eventually(free);
  }
  const answer = await raw(async () => new Response(long, { headers: { 'Content-Type': 'application/json', 'Content-Length': String(long.length) } }),
    'GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n');
  assert.match(answer, /content-encoding: gzip/);
});

test('a compressed request body is unpacked, a bomb is refused', async () => {
  const c = connect(async q => new Response(await q.text()));
  const { r, free } = await call(c, 'POST', '/', { body: gzipSync('hello'), headers: { 'Content-Encoding': 'gzip' } });
  assert.equal(await r.text(), 'hello');
  await eventually(free);
  const bomb = await call(c, 'POST', '/', { body: gzipSync(Buffer.alloc(80 << 20)), headers: { 'Content-Encoding': 'gzip' } });
  assert.equal(bomb.r.status, 413);
});

test('an abort of either side reaches the other', async () => {
  let aborted = false;
  const c = connect(q => new Promise(() => q.signal.addEventListener('abort', () => aborted = true)));
  const answer = call(c, 'GET', '/');
  await new Promise(r => setTimeout(r, 20));
  c.stream.reset(new Error('enough'));
  await assert.rejects(answer, /enough/);
  await eventually(() => aborted);

  let canceled = false;
  const feed = connect(async () => new Response(new ReadableStream({ pull: c => c.enqueue(utf8('x'.repeat(1000))), cancel: () => canceled = true })));
  const { r } = await call(feed, 'GET', '/');
  await r.body.cancel();
  await eventually(() => canceled);
});

test('a cut connection fails the request and the body', async () => {
  const c = connect(async () => new Response(new ReadableStream({ start: c => c.enqueue(utf8('part')) })));
  const { r } = await call(c, 'GET', '/');
  const reader = r.body.getReader();
  assert.equal(text((await reader.read()).value), 'part');
  c.cut();
  await assert.rejects(reader.read(), /cut/);
});

test('malformed requests are not served', async () => {
  const handler = async () => { throw new Error('served'); };
  for (const request of [
    'nonsense\r\n\r\n', 'GET / HTTP/2.0\r\n\r\n', 'GET x HTTP/1.1\r\n\r\n', 'GET / HTTP/1.1 x\r\n\r\n', 'GET / HTTP/1.1\r\nHost : x\r\n\r\n',
    'GET / HTTP/1.1\r\n folded: x\r\n\r\n', 'POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
    'POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n', 'POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n', `GET / HTTP/1.1\r\nx: ${'y'.repeat(70_000)}\r\n\r\n`,
    `GET / HTTP/1.1\r\n${'a: b\r\n'.repeat(20_000)}\r\n`,
  ]) assert.match(await raw(handler, request), /reset/, request.slice(0, 60));
  for (const request of ['POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', 'CONNECT /x HTTP/1.1\r\nConnection: close\r\n\r\n']) {
    assert.match(await raw(handler, request), /^HTTP\/1.1 400|reset/, request);
  }
});

test('a chunked request and Expect are served', async () => {
  const answer = await raw(async q => new Response(await q.text()),
    'POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n');
  assert.match(answer, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200/);
  assert.match(answer, /abcde/);
  assert.ok(gunzipSync(gzipSync('x')));
});
