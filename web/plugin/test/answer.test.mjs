// What a sharer answers is made anew, by the list that Go has.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { foreignHeaders, safeType } from '../lib/answer.js';
import { exchange, Reader } from '../lib/http1.js';
import { Session } from '../lib/yamux.js';
import { wires } from './support.mjs';
import { utf8 } from '../lib/encoding.js';

/** Asks a server that answers with these bytes, and then no more. */
async function ask(answer, { method = 'GET', host = 'x' } = {}) {
  const [a, b] = wires(), client = new Session(a, true).start(), server = new Session(b, false);
  server.onStream = async s => {
    await s.read();
    await s.write(typeof answer === 'string' ? utf8(answer) : answer);
    s.close();
  };
  server.start();
  const stream = client.open();
  return exchange(stream, new Reader(stream), { method, target: '/notes/a', host, headers: new Headers() }, () => {});
}

const whole = (head, body = '{"good":1}') => `HTTP/1.1 ${head.replaceAll('\n', '\r\n')}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
const evil = `Set-Cookie: a=evil
Service-Worker-Allowed: /evil
Refresh: 0; url=https://evil.example
Clear-Site-Data: "*", "evil"
Link: <https://evil.example>; rel=preload
Access-Control-Allow-Origin: evil
Content-Security-Policy: evil
SourceMap: evil
Alt-Svc: evil
WWW-Authenticate: Basic realm="evil"
Content-Disposition: inline; filename=evil.html
Cache-Control: evil
Server: evil
Vary: evil
X-Whatever-Comes-Next: evil`;

test('the list is that of Go', () => {
  const go = readFileSync(new URL('../../../internal/couchhttp/foreign.go', import.meta.url), 'utf8');
  const table = /var foreignHeaders = map\[string\]\*regexp\.Regexp\{\n([^]*?)\n\}/.exec(go)[1];
  const names = table.split('\n').map(l => /^\s*"([\w-]+)":/.exec(l)[1].toLowerCase());
  assert.ok(names.length > 5);
  assert.deepEqual(names.sort(), [...foreignHeaders].sort());
});

test('headers that are not listed do not pass, whatever the status', async () => {
  for (const status of ['200 OK', '201 Created', '404 evil', '500 evil', '401 evil', '206 evil']) {
    const r = await ask(whole(`${status}\nContent-Type: text/html\nETag: "1-a"\nRetry-After: 7\n${evil}`));
    assert.deepEqual([...r.headers], [['content-length', '10'], ['content-type', 'text/html'], ['etag', '"1-a"'], ['retry-after', '7']]);
    assert.equal(r.status, Number(status.slice(0, 3)));
    assert.equal(r.statusText, '');
    assert.equal(await r.text(), '{"good":1}');
  }
  const head = await ask(`HTTP/1.1 200 OK\r\nContent-Length: 99\r\n${evil.replaceAll('\n', '\r\n')}\r\n\r\n`, { method: 'HEAD' });
  assert.deepEqual([...head.headers], [['content-length', '99'], ['content-type', 'application/octet-stream']]);
});

test('answers that are none of CouchDB\'s are an error that says so', async () => {
  for (const status of [0, 99, 199, 203, 205, 207, 226, 299, 300, 305, 306, 309, 399, 407, 600, 999]) {
    await assert.rejects(ask(whole(`${String(status).padStart(3, '0')} evil`)), /The sharer's answer is none of CouchDB's|ended too soon/, String(status));
  }
  for (const head of ['101 Switching Protocols\nUpgrade: websocket', '200 OK\nContent-Encoding: br', '200 OK\nContent-Encoding: gzip, gzip', '200 OK\nContent-Encoding: gzip\nContent-Encoding: gzip', '200 OK\nContent-Encoding: zstd']) {
    await assert.rejects(ask(whole(head)), e => e.status === 502 && e.name === 'bad_gateway' && /none of CouchDB's/.test(e.reason), head);
  }
  for (const [location, ok] of [['http://x/notes/b', true], ['https://evil.example/', false], ['http://x.evil.example/notes', false], ['//evil.example', false], ['http://x@evil.example/', false], ['javascript:1', false], ['', false]]) {
    if (ok) assert.equal((await ask(whole(`302 x\nLocation: ${location}`))).headers.get('location'), location);
    else await assert.rejects(ask(whole(`302 x\nLocation: ${location}`)), /none of CouchDB's/, location);
    assert.equal((await ask(whole(`201 x\nLocation: ${location}`))).headers.get('location'), ok ? location : null);
  }
});

test('interim answers, headers and trailers are bounded, and tell nothing', async () => {
  const hint = 'HTTP/1.1 103 Early Hints\r\nLink: evil\r\nSet-Cookie: a=evil\r\n\r\n', ok = whole('200 OK\nContent-Type: application/json');
  assert.deepEqual([...(await ask(hint + ok)).headers.keys()], ['content-length', 'content-type']);
  await assert.rejects(ask(hint.repeat(100) + ok), /not HTTP/);
  await assert.rejects(ask(whole('200 OK\n' + Array(300).fill('a: b').join('\n'))), /malformed header/);
  await assert.rejects(ask(whole('200 OK\na: ' + 'b'.repeat(70_000))), /line too long/);
  const trailers = n => `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n${'Set-Cookie: a=evil\r\n'.repeat(n)}\r\n`;
  const r = await ask(trailers(2));
  assert.equal(await r.text(), '{}');
  assert.equal(r.headers.has('set-cookie'), false);
  await assert.rejects(ask(trailers(300)).then(r => r.text()), /too many trailers/);
});

test('gzip is unpacked, and its length is not told', async () => {
  const body = gzipSync('{"good":1}');
  const r = await ask(Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: ${body.length}\r\n\r\n`), body]));
  assert.equal(await r.text(), '{"good":1}');
  assert.deepEqual([...r.headers.keys()], ['content-type']);
});

test('media types are kept if they are some', async () => {
  for (const t of ['text/html', 'text/plain; charset=utf-8', 'application/vnd.a.b+json', 'multipart/related; boundary="a b"', 'image/svg+xml']) assert.equal(safeType(t), t);
  for (const t of ['', undefined, 7, 'html', '*/*', 'text/html, text/plain', 'text/html;charset="', 'multipart/x-mixed-replace; boundary=x', 'text/html\nSet-Cookie: x', 'a/b;' + 'c'.repeat(600), 'té/x']) {
    assert.equal(safeType(t), 'application/octet-stream', String(t));
  }
});
