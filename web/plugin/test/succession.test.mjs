// Peers that have changed their keys, as Go's `loveseat id rotate` does, are known again.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { formatTime, sharePrefix, sign } from '../lib/documents.js';
import { toBase64, url64, utf8 } from '../lib/encoding.js';
import { Identity } from '../lib/identity.js';
import { predecessors, readSuccession } from '../lib/succession.js';
import { hub, join, pouch } from './support.mjs';

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
