// What shares with limits may tell, as share/testdata/filtered.json has it for Go and for the plugin alike.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { couchHandler } from '../lib/couch.js';
import { View } from '../lib/filter.js';
import { pouch } from './support.mjs';

const table = JSON.parse(readFileSync(new URL('../../../share/testdata/filtered.json', import.meta.url)));
const limits = ({ selector, ids }) => ({
  ...selector && { filter: d => Object.entries(selector).every(([k, v]) => d[k] === v) }, ...ids && { docIds: ids },
});
const leaks = (text, asked) => ['secret', 'hidden'].some(mark => text.includes(mark) && !asked.includes(mark));

/** A share of the table's database, which is asked by rows. */
async function share(name) {
  const db = pouch(), made = structuredClone(table.docs); // PouchDB keeps what it is given
  const failed = await db.bulkDocs(made, { new_edits: false });
  assert.deepEqual(failed.filter(f => f.error), []);
  for (const d of table.locals) await db.put(structuredClone(d));
  const handle = couchHandler(db, { name: 'notes', uuid: 'u', readOnly: false, peer: 'me', view: new View(db, limits(table.shares[name])) });
  return async ({ method, path, body, headers }) => {
    const r = await handle(new Request(`http://share/notes${path}`, { method, headers: { 'Content-Type': 'application/json', Accept: 'application/json', ...headers }, body: body === undefined ? undefined : JSON.stringify(body) }));
    return { status: r.status, text: await r.text(), headers: JSON.stringify([...r.headers]) };
  };
}

for (const name of Object.keys(table.shares)) {
  test(`a share limited by ${name} tells nothing hidden, by any request of the table`, async () => {
    const ask = await share(name);
    for (const row of table.cases) {
      if (!(row.shares ?? ['selector']).includes(name)) continue;
      const got = await ask(row), asked = JSON.stringify(row), why = `${asked}\n${got.status} ${got.text}`;
      const ok = !leaks(got.text + got.headers, asked) && (row.has ?? []).every(s => got.text.includes(s)) && !(row.hasNot ?? []).some(s => got.text.includes(s)) &&
        (row.status === undefined || row.status === got.status) && got.status < 500;
      assert.ok(ok, why);
    }
  });
}

for (const name of ['selector', 'ids']) {
  test(`what a share limited by ${name} hides is answered as what is missing, byte by byte`, async () => {
    const ask = await share(name);
    for (const row of table.twins) {
      if (row.shares && !row.shares.includes(name)) continue;
      for (const pair of table.pairs) {
        const as = id => JSON.parse(JSON.stringify(row).replaceAll('{id}', id).replaceAll('{rev}', pair.rev));
        const hidden = await ask(as(pair.hidden)), missing = await ask(as(pair.missing));
        const spelled = x => JSON.stringify(x).replaceAll(pair.missing, pair.hidden);
        assert.ok(hidden.status < 500, `${JSON.stringify(as(pair.hidden))}\n${hidden.text}`);
        assert.ok(!leaks(hidden.text + hidden.headers, JSON.stringify(as(pair.hidden))), hidden.text);
        assert.equal(spelled(hidden), spelled(missing), JSON.stringify(as(pair.hidden)));
      }
    }
  });
}

test('a revision that is none is refused alike, whether the document is hidden or missing', async () => {
  const db = pouch();
  await db.put({ _id: 'hidden', public: false });
  const handle = couchHandler(db, { name: 'notes', uuid: 'u', readOnly: false, peer: 'me', view: new View(db, { filter: d => d.public === true }) });
  const ask = async (method, path, body) => {
    const r = await handle(new Request(`http://share/notes${path}`, { method, body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }));
    return `${r.status} ${await r.text()}`;
  };
  for (const _rev of [undefined, '', 'x', '-1', 'x-1', 7]) {
    for (const replicated of [true, false]) {
      if (!_rev && !replicated) continue; // a new document: that its id is taken shows
      const [hidden, missing] = await Promise.all(['hidden', 'absent'].map(async id => [
        await ask('PUT', `/${id}?new_edits=${!replicated}`, { public: true, _rev }), await ask('POST', '/_bulk_docs', { new_edits: !replicated, docs: [{ _id: id, public: true, _rev }] }),
      ].join('\n').replaceAll(id, 'ID')));
      assert.equal(hidden, missing, `${_rev} ${replicated}`);
    }
  }
});
