// Every screen of the hub's page: accessible, and fit for every width. LOVESEAT_PICTURES=DIR keeps pictures of them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { done, eventually, json, notes, pixel, Screen, shareID, startHubs } from './ui.mjs';
import { World, browsers } from './world.mjs';

let w;
before(async () => { w = await World.open(); });
after(() => w.close());

for (const kind of browsers) {
  test(`${kind}: every screen in light and dark, wide and narrow: axe-core finds nothing, nothing sticks out`, async () => {
    const { hub, guarded } = await startHubs(w, kind), db = `${kind}/looks`, long = 'averylongwordwithoutanyspace'.repeat(8);
    await w.import(db, [...notes(60), { _id: long, text: long }, { _id: 'with files', title: 'A picture', tags: ['a', 'b'], nested: { deep: [1, 2.5, null, true] }, _attachments: { 'pixel.png': { content_type: 'image/png', data: pixel }, 'notes.txt': { content_type: 'text/plain', data: btoa('some text\n'.repeat(5)) } } }]);
    const shared = await w.share(hub, db, '--name', 'Shopping list', '--info', '{"about":"What we need for the trip"}'), id = shareID(shared);
    await w.import(`${kind}/photos`, notes(2));
    await w.share(hub, `${kind}/photos`, '--name', 'Photos of a very long summer, with a name that does not end: ' + long.slice(0, 80), '--read-only');
    const direct = (await w.open(hub, id)).url;
    await json(`${direct}/_bulk_docs`, { method: 'POST', body: JSON.stringify({ new_edits: false, docs: [{ _id: 'both', _rev: '1-a', by: 'Ann', text: 'mine' }, { _id: 'both', _rev: '1-b', by: 'Bob', text: 'ours' }] }) });
    const s = await Screen.open(w, kind, new URL(hub).origin + '/'), out = await Screen.open(w, kind, guarded);
    const found = [];
    const look = async (t, name) => {
      await t.theme('light');
      found.push(...(await t.violations()).map(v => `${name} light: ${v}`));
      await t.picture(`${kind}-${name}-light`);
      await t.theme('dark');
      await t.picture(`${kind}-${name}-dark`);
      await t.size(390);
      const over = await t.overflows();
      if (over) found.push(`${name}: too wide for a phone: ${over}`);
      found.push(...(await t.violations()).map(v => `${name} phone dark: ${v}`));
      await t.picture(`${kind}-${name}-phone-dark`);
      await t.theme('light');
      await t.picture(`${kind}-${name}-phone-light`);
      await t.size(1280);
    };
    await out.see('Log in to go on');
    await look(out, 'refused');
    await out.go('/_utils/login');
    await out.see('Password');
    await look(out, 'login');
    await out.go('/_utils/users');
    await out.see('For administrators');
    await done(out, /status of 401/);
    await s.see('Shopping list');
    await look(s, 'shares');
    for (const [name, path, ...texts] of [
      ['share', `/_utils/shares/hub/${id}`, 'What we need for the trip'], ['browse', `/_utils/browse/share/hub/${id}`, 'note 001'], ['document', `/_utils/browse/share/hub/${id}?doc=with+files`, 'pixel.png', '"nested"'],
      ['conflicts', `/_utils/browse/share/hub/${id}?doc=both`, 'Version 2', 'Bob'], ['query', `/_utils/browse/share/hub/${id}?view=query`, 'Mango query'], ['changes', `/_utils/browse/share/hub/${id}?view=changes`, 'Waiting for changes'],
      ['new-document', `/_utils/browse/share/hub/${id}?doc=`, 'New document'], ['missing', `/_utils/browse/share/hub/${id}?doc=nothing`, 'missing'], ['gone', `/_utils/shares/hub/${'a'.repeat(26)}`, 'not there now'],
      ['sync-empty', '/_utils/sync', 'New replication'], ['share-here', '/_utils/new', 'Share a database'],
    ]) {
      await s.go(path);
      await s.see(...texts);
      if (name === 'query') {
        await s.click('Run');
        await s.see('documents in');
      }
      await look(s, name);
    }
    await s.go('/_utils/new');
    await s.fill('Name of the new database', 'album');
    await s.files('Files to import', [{ name: 'list.json', type: 'application/json', text: JSON.stringify(notes(20)) }]);
    await s.see('20 documents written');
    await s.click('Share', 'form');
    await s.see('Keep this tab open');
    await look(s, 'sharing');
    await s.go(`/_utils/sync?from=share/hub/${id}`);
    await s.fill('and, in this browser', 'looks');
    await s.click('Start');
    await s.see('Up to date, waiting');
    await look(s, 'sync');
    for (const [name, text] of [['Peers', 'Opened here'], ['Databases', 'In this browser'], ['Users', 'No accounts yet'], ['Server', 'CouchDB API'], ['Set-up check', 'The hub offers no TURN server']]) {
      await s.click(name, 'nav');
      await s.see(text);
      if (name === 'Peers') await eventually(async () => /Round trip\s+[\d.]+ ms/.test(await s.text('main')));
      if (name === 'Databases') await s.see('album', 'looks');
      await look(s, name.toLowerCase().replace(' ', '-'));
    }
    await s.go('/_utils/database/hub');
    await s.see('Who may use it');
    await look(s, 'database');
    await s.size(390);
    await s.click('Menu');
    await s.see('Share from here');
    found.push(...(await s.violations()).map(v => `menu: ${v}`));
    await s.picture(`${kind}-menu-phone`);
    assert.deepEqual(found, []);
    await done(s, /status of 404/);
  });
}
