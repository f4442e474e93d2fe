// A hostile opener, whose wire is its own, attacks what a page shares; the page goes on, and tells nothing that it hides.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism, loadavg } from 'node:os';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { World } from './world.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
let w, hub;
before(async () => {
  w = await World.open();
  hub = (await w.hub()).url;
});
after(() => w.close());

/** Makes the attacks and returns what got through. */
async function attack(...args) {
  const p = spawn('go', ['run', './e2e/evil/attack', ...args], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  p.stdout.on('data', b => out += b);
  const [code] = await once(p, 'close');
  assert.equal(code, 0);
  const all = out.trim().split('\n').map(l => JSON.parse(l));
  assert.ok(all.length > 4 || all.some(a => a.error), out);
  return all.filter(a => a.error);
}

test('chromium: a hostile opener of what a page shares', { timeout: 170_000 }, async () => {
  const page = await w.page('/');
  const secret = name => `canary-${name}-${Math.random().toString(36).slice(2)}`;
  const secrets = [secret('hidden'), secret('left'), secret('local')];
  const s = await page.evaluate(async ([hub, secrets]) => {
    const db = new PouchDB('garden'), h = new PouchDB(hub);
    const left = (await db.put({ _id: 'left', public: true })).rev;
    await db.put({ _id: 'left', _rev: left, public: false, secret: secrets[1], _attachments: { a: { content_type: 'text/plain', data: btoa(secrets[1]) } } });
    await db.put({ _id: 'seen', public: true, n: 1, list: [1, 2], text: 'a'.repeat(20_000) + '!' });
    await db.put({ _id: 'hidden-000001', public: false, secret: secrets[0] });
    await db.put({ _id: '_local/secret', secret: secrets[2] });
    const { id } = await h.shareDatabase(db, { name: 'page garden', filter: doc => doc.public === true });
    const open = new PouchDB('open');
    await open.put({ _id: 'seen', n: 1, list: [1, 2], text: 'a'.repeat(20_000) + '!' });
    return { id, left, open: (await h.shareDatabase(open, { name: 'page open' })).id };
  }, [hub, secrets]);
  // How long the page is held up at most.
  await page.evaluate(() => {
    window.longest = 0;
    let last = performance.now();
    setInterval(() => {
      window.longest = Math.max(window.longest, performance.now() - last);
      last = performance.now();
    }, 50);
  });
  const through = await attack('-hub', hub.replace(/\/hub$/, ''), '-share', s.id, '-db', 'garden', '-hidden', 'hidden-000001', '-absent', 'hidden-000002',
    '-left', 'left', '-left-rev', s.left, '-secrets', secrets.join());
  through.push(...await attack('-hub', hub.replace(/\/hub$/, ''), '-share', s.open, '-db', 'open', '-secrets', secrets.join()));
  const slow = Math.max(1, loadavg()[0] / availableParallelism() / 2); // what else runs on the machine takes its part of the time
  const held = await Promise.race([page.evaluate(() => window.longest), new Promise(r => setTimeout(r, 10_000 * slow, Infinity).unref())]);
  assert.deepEqual({ through, prompt: held < 3000 * slow || held }, { through: [], prompt: true });
});
