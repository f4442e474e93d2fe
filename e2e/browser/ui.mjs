// The hub's page in a real browser, used as people use it: by names of buttons, links and fields.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually as within } from './world.mjs';

const require = createRequire(fileURLToPath(new URL('../../web/ui/package.json', import.meta.url)));
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/** Waits patiently: the machine may be busy with other tests. */
export const eventually = (check, ms = 60_000) => within(check, ms);

/** One tab with the page. */
export class Screen {
  constructor(page, kind, root) {
    Object.assign(this, { page, kind, root, logs: [] });
    page.setDefaultTimeout(60_000);
    page.setDefaultNavigationTimeout(60_000);
    page.on('console', m => /error|warn/.test(m.type()) && this.logs.push(`${m.type()}: ${m.text()}`));
    page.on('pageerror', e => this.logs.push(`pageerror: ${e.stack ?? e}`));
    page.on('request', r => this.foreign ||= /^https?:/.test(r.url()) && !r.url().startsWith(root) && r.url());
    page.on('dialog', d => d.accept().catch(() => {}));
  }

  /** Opens a tab in a browser profile of its own. */
  static async open(world, kind, root, path = '/_utils/', width = 1280) {
    const browser = await world.launch(kind), context = await (kind === 'firefox' ? browser.createBrowserContext() : browser.newContext());
    const s = new Screen(await context.newPage(), kind, root);
    s.close = () => context.close();
    await s.size(width);
    await s.load(path);
    return s;
  }

  size(width, height = width < 600 ? 844 : 800) {
    return this.kind === 'firefox' ? this.page.setViewport({ width, height }) : this.page.setViewportSize({ width, height });
  }

  /** Loads a URL of the hub anew. */
  async load(path) {
    await this.page.goto(new URL(path, this.root).href);
    await eventually(() => this.page.evaluate(() => !!document.querySelector('main h1, main h2, main .note')));
  }

  /** Goes to a screen without loading the page again. */
  async go(path) {
    await this.page.evaluate(path => {
      const a = Object.assign(document.createElement('a'), { href: path });
      document.body.append(a);
      a.click();
      a.remove();
    }, path);
  }

  eval(fn, arg) { return this.page.evaluate(fn, arg); }
  text(selector = 'body') { return this.page.evaluate(s => document.querySelector(s)?.innerText ?? '', selector); }

  /** Waits until a text is to be read. */
  async see(...texts) {
    for (const text of texts) {
      await eventually(async () => (await this.text()).includes(text)).catch(async () => {
        throw new Error(`${this.kind}: "${text}" is not to be read at ${await this.eval(() => location.href)}:\n${(await this.text('main')).slice(0, 1500)}\n${this.logs.join('\n')}`);
      });
    }
  }

  async gone(text) { await eventually(async () => !(await this.text()).includes(text)); }

  /** Clicks the button, link or tab of a name, as soon as it is there and enabled. */
  async click(name, within = 'body') {
    await eventually(() => this.eval(([name, within]) => {
      const named = e => (e.getAttribute('aria-label') ?? e.innerText).trim().replace(/\s+/g, ' ');
      const all = [...document.querySelectorAll(within)].flatMap(w => [...w.querySelectorAll('a, button, [role=tab], summary')]).filter(e => e.checkVisibility() && !e.disabled);
      const found = all.find(e => named(e) === name) ?? all.find(e => named(e).startsWith(name));
      found?.click();
      return !!found;
    }, [name, within])).catch(async () => { throw new Error(`${this.kind}: no "${name}" to click: ${(await this.text('main')).slice(0, 1500)}\n${this.logs.join('\n')}`); });
  }

  /** Fills in, chooses or ticks the field of a label. */
  async fill(label, value) {
    await eventually(() => this.eval(([label, value]) => {
      const named = e => e.getAttribute('aria-label') ?? (e.labels?.[0]?.innerText ?? '').split('\n')[0];
      const e = [...document.querySelectorAll('input, textarea, select')].find(e => named(e).trim().startsWith(label) && !e.disabled);
      if (!e) return false;
      if (e.type === 'checkbox') {
        if (e.checked !== value) e.click();
        return true;
      }
      Object.getOwnPropertyDescriptor(Object.getPrototypeOf(e), 'value').set.call(e, value);
      e.dispatchEvent(new Event('input', { bubbles: true }));
      e.dispatchEvent(new Event('change', { bubbles: true }));
      return true;
    }, [label, value])).catch(async () => { throw new Error(`${this.kind}: no field "${label}": ${(await this.text('main')).slice(0, 1000)}`); });
  }

  /** Gives files to the field of a label. */
  async files(label, files) {
    await this.eval(([label, files]) => {
      const e = [...document.querySelectorAll('input[type=file]')].find(e => (e.getAttribute('aria-label') ?? e.labels?.[0]?.innerText ?? '').trim().startsWith(label)), t = new DataTransfer();
      for (const f of files) t.items.add(new File([f.base64 ? Uint8Array.from(atob(f.base64), c => c.charCodeAt(0)) : f.text], f.name, { type: f.type }));
      e.files = t.files;
      e.dispatchEvent(new Event('change', { bubbles: true }));
    }, [label, files]);
  }

  theme(name) { return this.eval(name => { document.documentElement.dataset.theme = name; }, name); }

  /** What axe-core finds wrong, a line each. */
  async violations() {
    if (!await this.eval(() => 'axe' in window)) await this.page.evaluate(axe);
    return this.eval(async () => (await window.axe.run(document, { resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })).violations
      .flatMap(v => v.nodes.map(n => `${v.id}: ${n.target.join(' ')}: ${n.any.concat(n.all, n.none).map(c => c.message).join('; ')}`)));
  }

  /** Whether something sticks out to the right. */
  overflows() {
    return this.eval(() => {
      const w = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= w) return '';
      return [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > w + 1).map(e => `${e.tagName}.${e.className}`).slice(0, 5).join(' ') || 'the page';
    });
  }

  async picture(name) {
    const dir = process.env.LOVESEAT_PICTURES;
    if (!dir) return;
    mkdirSync(dir, { recursive: true });
    await this.page.screenshot({ path: join(dir, `${name}.png`), fullPage: true });
  }
}

/** A picture of one pixel, a PNG in base64. */
export const pixel = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
export const notes = n => Array.from({ length: n }, (_, i) => ({ _id: `note ${String(i).padStart(3, '0')}`, title: `The ${i}th`, amount: i }));
export const json = async (url, init) => (await fetch(url, { headers: { 'Content-Type': 'application/json' }, ...init })).json();
export const shareID = s => s.link.split('share:')[1];

/** Starts a hub that is open to all, and one with an administrator. */
export async function startHubs(world, kind) {
  const start = async (name, ...args) => (await world.start('hubserver', '--addr', '127.0.0.1:0', '--data', world.path(name), '--json', '--log', 'warn', ...args).next('listening')).url;
  return { hub: await start('hub-' + kind) + '/hub', guarded: await start('guarded-' + kind, '--admin', 'ann:secret') + '/' };
}

/** Ends a test: the page complained of nothing, and asked nobody else for anything. */
export async function done(s, expected = /(?!)/) {
  // Firefox reports a body that was not wanted any more, however that was caught.
  assert.deepEqual(s.logs.filter(l => !expected.test(l) && !/Failed to read data from the ReadableStream/.test(l)), []);
  assert.equal(s.foreign ?? false, false);
  await s.close();
}
