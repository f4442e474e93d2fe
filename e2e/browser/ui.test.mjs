// The hub's page in real browsers, over the real binaries.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { done, eventually, json, notes, pixel, Screen, shareID, startHubs } from './ui.mjs';
import { World, browsers } from './world.mjs';

let w, hub, root, guarded;
const hubs = {};
before(async () => {
  w = await World.open();
  for (const kind of browsers) hubs[kind] = await startHubs(w, kind);
});
after(() => w.close());

const open = (kind, path, width) => Screen.open(w, kind, root, path, width);
/** Waits until the page is connected to a peer, directly or, on a slow machine, not yet. */
const connected = s => eventually(async () => /Direct|Relayed|By the hub/.test(await s.text('main')));

for (const kind of browsers) {
  test(`${kind}: the hubs run`, () => {
    ({ hub, guarded } = hubs[kind]);
    root = new URL(hub).origin + '/';
  });

  test(`${kind}: the page is found, guarded by its policy, and used with keys alone`, async () => {
    const s = await open(kind, '/');
    assert.match(await s.eval(() => location.href), /\/_utils\/$/);
    await s.see('Nothing is shared yet', 'loveseat share');
    const head = await fetch(root + '_utils/');
    assert.match(head.headers.get('content-security-policy'), /default-src 'none'.*frame-ancestors 'none'/);
    assert.equal((await fetch(root, { headers: { Accept: 'application/json' } })).status, 200);
    const inline = await s.eval(() => {
      const e = document.createElement('div');
      document.body.append(e);
      try { e.setAttribute('onclick', 'window.ran = true'); } catch { /* Trusted Types forbid even that */ }
      e.click();
      e.remove();
      return 'ran' in window;
    });
    assert.equal(inline, false);
    s.logs.length = 0; // the browser told of that
    await s.eval(() => document.body.focus());
    await s.page.keyboard.press('Tab');
    assert.equal(await s.eval(() => document.activeElement.innerText), 'Skip to content');
    await s.page.keyboard.press('Enter');
    assert.equal(await s.eval(() => document.activeElement.id), 'main');
    await s.click('Set-up check');
    await s.see('Hub reachable', 'It answers in', 'The hub offers no TURN server');
    assert.equal(await s.eval(() => document.title), 'Set-up check · Loveseat');
    await s.eval(() => history.back());
    await s.see('Nothing is shared yet');
    await s.click('Colours: as the system');
    assert.equal(await s.eval(() => document.documentElement.dataset.theme), 'light');
    await s.load('/_utils/nowhere');
    await s.see('There is no such screen');
    assert.equal(await s.eval(() => document.documentElement.dataset.theme), 'light');
    await done(s, /Content-Security-Policy/); // Firefox tells of it late
  });

  test(`${kind}: shares appear and go as they are shared; a link leads to the documents in one tap`, async () => {
    const name = `list ${kind}`;
    await w.import(`${kind}/list`, notes(120));
    const s = await open(kind, '/_utils/');
    const shared = await w.share(hub, `${kind}/list`, '--name', name, '--info', '{"motto":"two"}');
    await s.see(name, '120 documents', 'Not connected');
    const peer = (await json(`${hub}/share:${shareID(shared)}`)).peer;
    await s.see(peer.split('-').slice(0, 2).join('-'));
    await s.click(name);
    await s.see('"motto": "two"', peer, shared.link, 'Read and write');
    for (const [tab, text] of [['curl', 'curl '], ['PouchDB', `loveseat://${shareID(shared)}`], ['Go', 'peer.Open'], ['CLI', 'loveseat sync']]) {
      await s.click(tab);
      await eventually(async () => (await s.text('.snippets pre')).includes(text));
    }
    await eventually(() => s.eval(() => document.querySelector('svg.qr path').getAttribute('d').length > 1000));

    const phone = await open(kind, shared.link + '#' + 'a'.repeat(26), 390);
    await phone.see(name, 'It holds the invite');
    assert.match(await phone.eval(() => location.pathname), /^\/_utils\/shares\/hub\/[a-z2-7]{26}$/);
    await phone.click('Show documents');
    await phone.see('note 000');
    await connected(phone);
    assert.equal(await phone.overflows(), '');
    await done(phone);

    await s.go('/_utils/');
    await s.see(name);
    await shared.process.stop();
    await s.gone(name);
    await s.load(shared.link);
    await s.see('This share is not there now');
    await done(s);
  });

  test(`${kind}: the documents of a share: pages, writing, conflicts, attachments, queries, changes`, async () => {
    const name = `docs ${kind}`, db = `${kind}/docs`;
    await w.import(db, [...notes(120), { _id: 'z/pic ü', _attachments: { 'a b.png': { content_type: 'image/png', data: pixel }, 'evil.svg': { content_type: 'image/svg+xml', data: btoa('<svg xmlns="http://www.w3.org/2000/svg"><script>top.ran=1</script></svg>') } } }]);
    const shared = await w.share(hub, db, '--name', name), direct = (await w.open(hub, shareID(shared))).url;
    await json(`${direct}/_bulk_docs`, { method: 'POST', body: JSON.stringify({ new_edits: false, docs: [{ _id: 'both', _rev: '1-a', by: 'Ann', same: 1 }, { _id: 'both', _rev: '1-b', by: 'Bob', same: 1 }] }) });
    const s = await open(kind, `/_utils/browse/share/hub/${shareID(shared)}`);
    await s.see('note 048', '1–50 of 122');
    await s.click('Next');
    await s.see('note 049', '51–100 of 122');
    await s.click('Previous');
    await s.see('note 001');
    await s.fill('Ids that begin with', 'note 11');
    await s.see('note 119');
    await s.gone('note 001');
    await s.click('note 111');
    await s.see('"amount": 111');
    await s.click('Edit');
    await s.fill('Content', '{"_id":"note 111", bad');
    await s.click('Save');
    await s.see('JSON');
    await s.fill('Content', '{"_id":"note 111","amount":1110}');
    await s.click('Save');
    await s.see('"amount": 1110');
    assert.equal((await json(`${direct}/note 111`)).amount, 1110);

    await s.go(`/_utils/browse/share/hub/${shareID(shared)}?doc=both`);
    await s.see('2 versions', 'The versions differ in by', 'Ann', 'Bob');
    await s.click('Keep this one', 'article[aria-label="Version 2"]');
    await s.gone('2 versions');
    await s.see('"by": "Ann"');
    const both = await json(`${direct}/both?conflicts=true`);
    assert.deepEqual([both.by, both._conflicts], ['Ann', undefined]);

    await s.go(`/_utils/browse/share/hub/${shareID(shared)}?doc=${encodeURIComponent('z/pic ü')}`);
    await eventually(() => s.eval(() => document.querySelector('img.preview')?.naturalWidth === 1));
    assert.equal(await s.eval(() => [...document.querySelectorAll('button')].filter(b => b.innerText === 'Preview').length), 0, 'an SVG is not shown');
    const data = randomBytes(300_000);
    await s.files('Add files', [{ name: 'new.txt', type: 'text/plain', text: 'hello <b>' }, { name: 'big.bin', type: '', base64: data.toString('base64') }]);
    await s.see('new.txt', 'big.bin', '300 KB');
    await s.click('Preview');
    await s.see('hello <b>');
    const back = Buffer.from(await (await fetch(`${direct}/${encodeURIComponent('z/pic ü')}/big.bin`)).arrayBuffer());
    assert.equal(createHash('sha256').update(back).digest('hex'), createHash('sha256').update(data).digest('hex'));

    await s.go(`/_utils/browse/share/hub/${shareID(shared)}?view=query`);
    await s.fill('Mango query', '{"selector":{"amount":{"$gt":1000}}}');
    await s.click('Run');
    await s.see('1 document in', 'note 111');
    await s.fill('Mango query', '{"selector":{"amount":{"$no":1}}}');
    await s.click('Run');
    await s.see('$no');
    await s.click('Changes');
    await s.see('Waiting for changes');
    // The feed may begin a little later than it says so.
    for (let i = 0; !(await s.text()).includes('live 1'); i++) {
      await w.import(db, [{ _id: `live ${i}` }]);
      await new Promise(r => setTimeout(r, 200));
    }
    await s.click('Documents');
    await s.fill('Ids that begin with', 'live');
    await s.see('live 1');
    await w.import(db, [{ _id: 'live later' }]);
    await s.see('live later');

    await s.go(`/_utils/browse/share/hub/${shareID(shared)}?doc=`);
    await s.fill('Id', 'made here');
    await s.fill('Content', '{"n":1}');
    await s.click('Save');
    await s.see('"n": 1');
    await s.click('Delete');
    await s.see('Delete it everywhere?');
    await s.click('Delete', '.sure');
    await s.see('1–50 of');
    assert.equal((await fetch(`${direct}/made here`)).status, 404);
    await done(s, /status of (400|404|409)/);
  });

  test(`${kind}: a database of this browser is filled and shared; Go opens it and gets the same`, async () => {
    const s = await open(kind, '/_utils/new'), name = `from ${kind}`;
    await s.fill('Name of the new database', 'mine');
    await s.files('Files to import', [{ name: 'list.json', type: 'application/json', text: JSON.stringify(notes(300)) }, { name: 'p.png', type: 'image/png', base64: pixel }]);
    await s.see('301 documents written');
    await s.fill('Shared as', name);
    await s.click('Share', 'form');
    await s.see('Keep this tab open', 'Nobody has it open now');
    const opened = await w.open(hub, name);
    const rows = (await json(`${opened.url}/_all_docs?include_docs=true`)).rows;
    assert.equal(rows.length, 301);
    assert.deepEqual(rows.find(r => r.id === 'note 007').doc.amount, 7);
    const png = Buffer.from(await (await fetch(`${opened.url}/p.png/p.png`)).arrayBuffer());
    assert.equal(png.toString('base64'), pixel);
    const put = await fetch(`${opened.url}/x`, { method: 'PUT', body: '{}', headers: { 'Content-Type': 'application/json' } });
    assert.equal(put.status, 403, 'it is shared read-only by default');
    await s.see('Open at');
    await s.click('Peers');
    await s.see('Opened by them', 'Round trip');
    await s.click('Share from here');
    await s.click('Stop sharing');
    await s.gone('Keep this tab open');
    await eventually(async () => !(await w.loveseat(['ls', hub, '--json'])).flat().some(l => l.name === name));
    await opened.process.stop();

    await s.fill('Database in this browser', 'mine');
    await s.fill('Shared as', name + ' again');
    await s.fill('Read only', false);
    await s.fill('Who may open it', 'ask');
    await s.click('Share', 'form');
    await s.see('Keep this tab open');
    const asking = w.open(hub, name + ' again');
    asking.catch(() => {});
    await s.see('wants to open');
    await s.click('Let in');
    const written = await fetch(`${(await asking).url}/x`, { method: 'PUT', body: '{"by":"Go"}', headers: { 'Content-Type': 'application/json' } });
    assert.equal(written.status, 201);
    await s.go('/_utils/browse/here/mine?doc=x');
    await s.see('"by": "Go"');
    await s.load('/_utils/new');
    await s.see('Keep this tab open', 'Asks you');
    await s.click('Stop sharing');
    await s.gone('Keep this tab open');

    await s.fill('Who may open it', 'invite');
    await s.fill('Shared as', name + ' by invite');
    await s.click('Share', 'form');
    await s.see('Who has the link');
    await s.click('Link and QR code');
    await s.see('It holds the invite');
    const link = await s.eval(() => [...document.querySelectorAll('.line code')].map(c => c.innerText).find(t => t.includes('share:')));
    assert.match(link, /#[a-z2-7]{26}$/);
    const guest = await open(kind, link.split('#')[0], 390);
    await guest.click('Show documents');
    await guest.see('This share needs an invite', 'Open it by the whole link');
    await guest.load(link);
    await guest.click('Show documents');
    await guest.see('note 007');
    await s.go('/_utils/new');
    await s.see('Open at');
    await s.click('Revoke');
    await s.click('Revoke', '.sure');
    await s.see('Nobody has it open now');
    await guest.load(link);
    await guest.click('Show documents');
    await guest.see('was revoked');
    await done(guest);
    await done(s);
  });

  test(`${kind}: replication: progress, both ways and live, cancelled; peers and their connections`, async () => {
    const name = `pull ${kind}`, db = `${kind}/pull`;
    await w.import(db, notes(1500));
    const shared = await w.share(hub, db, '--name', name), s = await open(kind, `/_utils/shares/hub/${shareID(shared)}`);
    await s.click('Replicate');
    await s.fill('and, in this browser', 'copy');
    await s.fill('Direction', 'both');
    await s.click('Start');
    await s.see('1,500', 'Up to date, waiting', 'Live');
    await w.import(db, [{ _id: 'from Go' }]);
    await s.see('1,501');
    await s.eval(() => { window.marker = 1; });
    await s.go('/_utils/browse/here/copy?doc=');
    await s.fill('Id', 'from the page');
    await s.fill('Content', '{"n":2}');
    await s.click('Save');
    await eventually(async () => (await w.export(db)).some(d => d._id === 'from the page' && d.n === 2));
    assert.equal((await w.export(db)).length, 1502);
    assert.equal(await s.eval(() => window.marker), 1, 'the page was loaded again');
    await s.load('/_utils/sync');
    await s.see('Up to date, waiting');
    await w.import(db, [{ _id: 'after the reload' }]);
    await s.go('/_utils/browse/here/copy?prefix=after');
    await s.see('after the reload');
    await s.click('Replication');
    await s.click('Cancel');
    await s.see('Cancelled');
    await s.fill('Between', `share/hub/${shareID(shared)}`);
    await s.fill('and, in this browser', 'copy');
    await s.fill('Live', false);
    await s.click('Start');
    await s.see('Done');

    await s.click('Peers');
    await s.see('Opened here');
    await connected(s);
    await eventually(async () => /Round trip\s+[\d.]+ ms/.test(await s.text('main')));
    await s.click('Reconnect');
    await s.see('made anew');
    await s.see('Opened here');
    await s.click('Databases');
    await s.see('copy', '1,503', 'Hub');
    await s.click('Delete', 'section[aria-labelledby=here]');
    await s.click('Delete', '.sure');
    await s.see('No databases here yet');
    await done(s);
  });

  test(`${kind}: log in and out; accounts, databases and the server for administrators`, async () => {
    const s = await Screen.open(w, kind, guarded);
    await w.import(`${kind}/guarded`, notes(3));
    const shared = await w.share(guarded.replace('//', '//ann:secret@') + 'hub', `${kind}/guarded`, '--name', 'guarded');
    const guest = await Screen.open(w, kind, guarded, `/hub/share:${shareID(shared)}`, 390);
    await guest.see('A database is shared with you');
    await guest.fill('Name', 'ann');
    await guest.fill('Password', 'secret');
    await guest.click('Log in', 'form');
    await guest.click('Show documents');
    await guest.see('note 002');
    await done(guest, /status of 401/);
    await shared.process.stop();
    await s.see('You are not authorized', 'Log in to go on');
    await s.click('Log in', 'main');
    await s.fill('Name', 'ann');
    await s.fill('Password', 'wrong');
    await s.click('Log in', 'form');
    await s.see('Name or password is incorrect');
    await s.fill('Password', 'secret');
    await s.click('Log in', 'form');
    await s.see('Nothing is shared yet', 'ann');
    await s.click('Users');
    await s.click('New account');
    await s.fill('Name', `bob-${kind}`);
    await s.fill('Password', 'hello bob');
    await s.fill('Roles', 'crew, chief');
    await s.click('Save');
    await s.see(`bob-${kind}`, 'chief');
    await s.click(`Edit bob-${kind}`);
    await s.fill('Roles', 'crew');
    await s.click('Save');
    await s.gone('chief');

    await s.click('Databases');
    await s.click('New database on the hub');
    await s.fill('Name of the new database', `things-${kind}`);
    await s.click('Create');
    await s.see('Who may use it');
    await s.fill('Members, by role', 'crew');
    await s.click('Save');
    await s.see('Saved');
    const basic = { headers: { Authorization: 'Basic ' + btoa('ann:secret') } };
    assert.deepEqual((await json(`${guarded}things-${kind}/_security`, basic)).members.roles, ['crew']);
    await s.click('Compact');
    await s.see('Compaction has begun');
    await s.click('Server');
    await s.see('CouchDB API', 'Made by administrators', 'None: peers reach each other');

    await s.click('Log out');
    await s.see('For administrators');
    await s.go('/_utils/login');
    await s.fill('Name', `bob-${kind}`);
    await s.fill('Password', 'hello bob');
    await s.click('Log in', 'form');
    await s.see('Nothing is shared yet', `bob-${kind}`);
    assert.ok(!(await s.text('nav')).includes('Users'));
    await s.go(`/_utils/browse/hub/things-${kind}`);
    await s.see('There are no documents yet');
    await s.load(`/_utils/database/things-${kind}`);
    await s.go('/_utils/browse/hub/_users');
    await s.see('You are not');
    await done(s, /status of (401|403)/);
  });

  test(`${kind}: nothing that others wrote becomes a part of the page`, async () => {
    const evil = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>', js = 'javascript:window.ran=1', db = `${kind}/evil`;
    await w.import(db, [{ _id: evil, text: evil, href: js, dangerouslySetInnerHTML: { __html: evil } }, { _id: '../../_utils/x?#', n: 1 },
      { _id: 'files', _attachments: {
        'page.html': { content_type: 'text/html', data: btoa(evil) }, 'x.svg': { content_type: 'image/svg+xml', data: btoa('<svg onload="top.ran=1"/>') },
        'liar.png': { content_type: 'image/png', data: btoa(evil) }, [evil]: { content_type: 'text/plain', data: btoa(evil) }, 'odd': { content_type: evil, data: '' } } }]);
    const shared = await w.share(hub, db, '--name', evil, '--info', JSON.stringify({ about: evil, props: { dangerouslySetInnerHTML: { __html: evil } } }));
    const s = await open(kind, '/_utils/'), at = `/_utils/browse/share/hub/${shareID(shared)}`;
    await s.see(evil);
    for (const [path, text] of [[`/_utils/shares/hub/${shareID(shared)}`, evil], [at, evil], [`${at}?doc=${encodeURIComponent(evil)}`, js], [`${at}?doc=files`, 'page.html'], [`${at}?doc=${encodeURIComponent('../../_utils/x?#')}`, '"n": 1'], [`/_utils/sync?from=${encodeURIComponent(evil)}`, 'New replication'], [`/_utils/login?then=${encodeURIComponent(js)}`, 'no accounts']]) {
      await s.go(path);
      await s.see(text);
    }
    await s.go(`${at}?doc=files`);
    await s.see('liar.png');
    const previews = await s.eval(() => [...document.querySelectorAll('.files li')].filter(l => [...l.querySelectorAll('button')].some(b => /^(Preview|Hide)$/.test(b.innerText))).map(l => l.querySelector('strong').innerText).sort());
    assert.deepEqual(previews, [evil, 'liar.png']);
    assert.equal(await s.eval(() => 'ran' in window || !!document.querySelector('main script, main iframe, main img[onerror], main a[href^="javascript:"]')), false);
    await done(s);
    await shared.process.stop();
  });
}

if (browsers.length > 1) {
  test('a page in one browser shares, and a page in the other has the documents in one tap and copies them', async () => {
    const [a, b] = browsers, alice = await open(a, '/_utils/new');
    await alice.fill('Name of the new database', 'across');
    await alice.files('Files to import', [{ name: 'list.json', type: 'application/json', text: JSON.stringify(notes(700)) }]);
    await alice.see('700 documents written');
    await alice.fill('Read only', false);
    await alice.click('Share', 'form');
    await alice.see('Keep this tab open');
    await alice.click('Link and QR code');
    const link = await alice.eval(() => [...document.querySelectorAll('.line code')].map(c => c.innerText).find(t => t.includes('share:')));
    const bob = await open(b, link, 390);
    const code = /(\d{5} ){5}\d{5}/, seen = await eventually(async () => code.exec(await bob.text('main'))?.[0]);
    await bob.click('Show documents');
    await bob.see('note 000', '700 documents');
    await alice.click('Peers');
    await eventually(async () => code.exec(await alice.text('main'))?.[0] === seen);
    await bob.click('Replicate');
    await bob.fill('Direction', 'both');
    await bob.click('Start');
    await bob.see('Up to date, waiting');
    await bob.go('/_utils/browse/here/across?doc=');
    await bob.fill('Id', 'note 000 a');
    await bob.click('Save');
    await alice.go('/_utils/browse/here/across');
    await alice.see('note 000 a');
    await done(alice);
    await done(bob);
  });
}
