// Peers that have changed their keys, as Go's `loveseat id rotate` does, are known again.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { formatTime, sharePrefix, sign } from '../lib/documents.js';
import { toBase64, url64, utf8 } from '../lib/encoding.js';
import { Identity } from '../lib/identity.js';
import { predecessors, readSuccession } from '../lib/succession.js';
import { eventually, hub, join, pouch } from './support.mjs';

async function succession(old, to, time = formatTime(Date.now())) {
  return { from: old.keys.sign, to: to.id, time, signature: toBase64(await old.sign(utf8(`loveseat succession v1\n${to.id}\n${time}`))) };
}
const header = chain => url64(toBase64(utf8(JSON.stringify(chain))));
const ask = async (r, chain) => {
  const a = await r.fetch(r.url, chain && { headers: { 'Loveseat-Succession': header(chain) } });
  return `${a.status} ${(await a.json()).reason ?? ''}`.trim();
};

test("Go's chains are believed or not as in Go", async () => {
  const all = JSON.parse(readFileSync(new URL('golden/succession.json', import.meta.url)));
  for (const { why, peer, chain, predecessors: want } of all) {
    const got = await predecessors(peer, chain ?? []).catch(() => null);
    assert.deepEqual(got, want, why);
    assert.deepEqual(await readSuccession(header(chain ?? []), peer), want ?? [], why);
  }
  for (const junk of [null, '', '!', header({}), header(null), header([null]), header(['x']), 'A'.repeat(8193)]) assert.deepEqual(await readSuccession(junk, 'p'), []);
});

test('an allowlist admits the peer under its new keys, a revocation keeps it out', async t => {
  const h = hub(), [before, after] = [await Identity.create(), await Identity.create()], chain = [await succession(before, after)];
  const alice = await join(t, h), bob = await join(t, h, { identity: after }), eve = await join(t, h);
  const db = pouch(), { id } = await alice.share(db, { allow: [before.id] });
  assert.equal(await ask(await bob.open(id)), '403 This share is for peers that its owner has listed.');
  assert.equal(await ask(await eve.open(id), chain), '403 This share is for peers that its owner has listed.');
  await alice.unshare(db); // a peer's refusal counts while it stays
  await alice.share(db, { allow: [before.id] });
  const r = await bob.open(id);
  assert.equal(await ask(r, chain), '200');
  assert.deepEqual(alice.serving()[0].openers.map(o => [o.peer, o.predecessors]), [[bob.id, [before.id]]]);
  await alice.served(db).revoke(before.id);
  assert.equal(await ask(r, chain), '403 Access to this share was revoked.');
});

test('a link to a share finds that of the sharer under its new keys', async t => {
  const h = hub(), db = pouch(), [before, after] = [await Identity.create(), await Identity.create()];
  const old = await join(t, h, { identity: before }), { id } = await old.share(db);
  await old.close();
  const now = await join(t, h, { identity: after }), bob = await join(t, h), s = await now.share(db);
  await assert.rejects(bob.open(id), { status: 404 });
  const doc = await bob.hub.get(sharePrefix + s.id), { signature: _, ...unsigned } = doc;
  const publish = async (chain, later) => bob.hub.put(await sign(after, {
    ...unsigned, succeeds: chain, published: formatTime(Date.parse(doc.published) + later), _rev: (await bob.hub.get(doc._id))._rev,
  }));
  await publish([{ ...await succession(before, after), to: bob.id }], 1);
  await assert.rejects(bob.open(id), { status: 404 });
  await publish([await succession(before, after)], 2);
  assert.equal((await bob.open(id)).id, s.id);
  assert.equal((await bob.open(`http://hub/hub/${sharePrefix}${id}#secret`)).id, s.id);
});

/** A peer with three keys, each of which names the next, and a sharer. */
async function rotated(t, options) {
  const h = hub(), ids = await Promise.all([1, 2, 3].map(() => Identity.create())), [first, second, third] = ids;
  const links = [await succession(first, second), await succession(second, third)], db = pouch(), alice = await join(t, h);
  const peers = await Promise.all(ids.map(identity => join(t, h, { identity }))), { id } = await alice.share(db, options);
  return { h, ids, links, db, alice, peers, id, share: () => alice.served(db), open: async (n, chain) => ask(await peers[n].open(id), chain) };
}
const revoked = '403 Access to this share was revoked.';

for (const which of [0, 1, 2]) {
  test(`revoking one key of a peer, that of number ${which}, keeps out all that its successions link to it`, async t => {
    const w = await rotated(t);
    assert.equal(await w.open(2, w.links), '200');
    await w.share().revoke(w.ids[which].id);
    for (const n of [0, 1, 2]) {
      assert.equal(await w.open(n), revoked, `key ${n}, silent`);
      assert.equal(await w.open(n, w.links.slice(0, n)), revoked, `key ${n}`);
    }
    await w.alice.unshare(w.db);
    const again = await w.alice.share(w.db); // it outlives the page
    assert.equal(again.id, w.id);
    for (const n of [0, 1, 2]) assert.equal(await w.open(n), revoked, `key ${n} after a restart`);
  });
}

test('a succession that leads to a revoked key is refused, remembered, and ends what its other keys have open', async t => {
  const w = await rotated(t), silent = await w.peers[2].open(w.id);
  assert.equal(await ask(silent), '200'); // nobody knows whose key it is
  await w.share().revoke(w.ids[0].id);
  assert.equal(await ask(silent), '200');
  assert.equal(await w.open(1, w.links.slice(0, 1)), revoked);
  assert.equal(await w.open(1), revoked);
  const late = await Identity.create(), bob = await join(t, w.h, { identity: late });
  assert.equal(await ask(await bob.open(w.id), [...w.links, await succession(w.ids[2], late)]), revoked);
  await eventually(async () => await ask(silent) === revoked); // its key was between the two
});

test('a share document that links an opener to a revoked key ends its session', async t => {
  const w = await rotated(t), silent = await w.peers[1].open(w.id), db = pouch();
  assert.equal(await ask(silent), '200');
  await w.share().revoke(w.ids[0].id);
  assert.equal(await ask(silent), '200');
  const own = await w.peers[1].share(db), doc = await w.alice.hub.get(sharePrefix + own.id), { signature: _, ...unsigned } = doc;
  await w.alice.hub.put(await sign(w.ids[1], { ...unsigned, succeeds: w.links.slice(0, 1), published: formatTime(Date.parse(doc.published) + 1) }));
  await eventually(async () => await ask(silent) === revoked);
});

test('what was granted holds for the key it names and its successors, not for older ones', async t => {
  const w = await rotated(t, { onRemote: e => e.peer === w.ids[1].id ? e.always() : e.preventDefault('No.') });
  assert.equal(await w.open(0), '403 No.');
  assert.equal(await w.open(1, w.links.slice(0, 1)), '200');
  assert.equal(await w.open(2, w.links), '200'); // not asked about
  const lists = await w.db.get(`_local/loveseat-access-${w.id}`);
  assert.deepEqual(lists.links, [{ from: w.ids[0].id, to: w.ids[1].id }, { from: w.ids[1].id, to: w.ids[2].id }]);
  await w.share().revoke(w.ids[2].id);
  assert.deepEqual((await w.db.get(lists._id)).always, {});
});

test('a key that is taken off the allowlist is no bridge to one that is on it', async t => {
  const h = hub(), [first, second, third] = await Promise.all([1, 2, 3].map(() => Identity.create())), db = pouch(), alice = await join(t, h);
  const bob = await join(t, h, { identity: third }), chain = [await succession(first, second), await succession(second, third)];
  const { id } = await alice.share(db, { allow: [first.id, second.id] });
  assert.equal(await ask(await bob.open(id), chain), '200');
  await alice.unshare(db);
  const again = await alice.share(db, { allow: [first.id] }); // under another id, since somebody is left out
  assert.equal(await ask(await bob.open(again.id), chain), '403 This share is for peers that its owner has listed.');
});

test('a chain has an end', async t => {
  const h = hub(), alice = await join(t, h), db = pouch(), { id } = await alice.share(db);
  let key = await Identity.create(), answer;
  for (let i = 0; i < 70 && answer !== '403 This peer has changed its keys too often.'; i++) {
    const next = await Identity.create(), bob = await join(t, h, { identity: next });
    answer = await ask(await bob.open(id), [await succession(key, next)]);
    await bob.close();
    key = next;
  }
  assert.equal(answer, '403 This peer has changed its keys too often.');
  assert.equal((await db.get(`_local/loveseat-access-${id}`)).links.length, 63);
});

test('who is revoked while the owner is asked is not let in', async t => {
  const h = hub(), [alice, bob] = await Promise.all([join(t, h), join(t, h)]), db = pouch();
  let admit;
  const { id } = await alice.share(db, { onRemote: () => new Promise(r => admit = r) }), asked = ask(await bob.open(id));
  await eventually(() => admit);
  await alice.served(db).revoke(bob.id);
  admit();
  assert.equal(await asked, revoked);
});
