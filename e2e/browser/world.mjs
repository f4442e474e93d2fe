// Starts the real binaries and real browsers for the browser tests.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const bin = process.env.LOVESEAT_BIN ?? join(root, 'bin');
const plugin = join(root, 'web/plugin');
const require = createRequire(join(plugin, 'package.json'));
const { chromium } = require('playwright-core');
const { default: puppeteer } = require('puppeteer-core');

const chromiumPath = process.env.CHROMIUM ?? '/usr/bin/chromium', firefoxPath = process.env.FIREFOX ?? '/usr/bin/firefox-esr';
const chromiumFlags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--host-resolver-rules=MAP *.example 127.0.0.1'];
/** A name of no loopback origin that leads here all the same. */
export const foreignName = 'site.example';

/** The browsers there are. */
export const browsers = Object.entries({ chromium: chromiumPath, firefox: firefoxPath }).filter(([, path]) => existsSync(path)).map(([kind]) => kind);

const files = {
  '/loveseat.js': join(plugin, 'dist/loveseat.js'),
  '/pouchdb.js': join(plugin, 'node_modules/pouchdb/dist/pouchdb.min.js'),
  '/pouchdb.find.js': join(plugin, 'node_modules/pouchdb/dist/pouchdb.find.min.js'),
  '/example.html': join(plugin, 'example/index.html'),
};

const page = `<!doctype html><meta charset="utf-8"><title>test</title>
<script src="/pouchdb.js"></script><script src="/pouchdb.find.js"></script>
<script type="module">import Loveseat, * as loveseat from '/loveseat.js'; PouchDB.plugin(Loveseat); window.loveseat = loveseat; window.ready = true;</script>`;

/** A directory, processes, browser contexts; everything ends with close. */
export class World {
  dir = mkdtempSync(join(tmpdir(), 'loveseat-browser-'));
  ending = [];
  browsers = {};

  path(name) { return join(this.dir, name); }

  static async open() {
    const w = new World();
    w.server = createServer((q, r) => {
      const path = new URL(q.url, 'http://x').pathname, file = files[path] ?? (/^\/[\w-]+\.js$/.test(path) && join(plugin, 'dist', path));
      r.setHeader('Content-Type', file && !file.endsWith('.html') ? 'text/javascript' : 'text/html');
      if (file && existsSync(file)) createReadStream(file).pipe(r);
      else r.end(page);
    }).listen(0, '127.0.0.1');
    await once(w.server, 'listening');
    w.origin = `http://127.0.0.1:${w.server.address().port}`;
    return w;
  }

  /** Starts a program that prints JSON events. */
  start(name, ...args) {
    const p = spawn(join(bin, name), args, { env: { PATH: process.env.PATH, HOME: this.path('home') } });
    const events = [], waiting = [];
    let errors = '';
    p.stderr.on('data', b => errors += b);
    createInterface(p.stdout).on('line', line => {
      events.push(JSON.parse(line));
      for (const go of waiting.splice(0)) go();
    });
    const exited = once(p, 'exit').then(([code]) => {
      for (const go of waiting.splice(0)) go();
      return code;
    });
    const proc = {
      exited,
      stderr: () => errors,
      async next(event, ms = 30_000) {
        const till = Date.now() + ms;
        for (;;) {
          const at = events.findIndex(e => e.event === event);
          if (at >= 0) return events.splice(0, at + 1)[at];
          if (p.exitCode !== null || Date.now() > till) throw new Error(`${name} ${args.join(' ')}: no event ${event}: ${errors}`);
          await Promise.race([new Promise(r => waiting.push(r)), new Promise(r => setTimeout(r, till - Date.now()).unref())]);
        }
      },
      async stop() {
        p.kill('SIGINT');
        return exited;
      },
      kill() {
        p.kill('SIGKILL');
        return exited;
      },
      signal: name => p.kill(name),
    };
    this.ending.push(() => p.exitCode === null && p.signalCode === null ? proc.stop() : undefined);
    return proc;
  }

  /** Runs loveseat to its end and returns its JSON events. */
  async loveseat(args, { stdin = '', status = 0 } = {}) {
    const p = spawn(join(bin, 'loveseat'), args, { env: { PATH: process.env.PATH, HOME: this.path('home') } });
    let out = '', errors = '';
    p.stdout.on('data', b => out += b);
    p.stderr.on('data', b => errors += b);
    p.stdin.on('error', () => {}); // it may end without reading; its status tells
    p.stdin.end(stdin);
    const [code] = await once(p, 'close');
    if (code !== status) throw new Error(`loveseat ${args.join(' ')}: status ${code}: ${out}${errors}`);
    return out.trim().split('\n').filter(Boolean).map(l => { try { return JSON.parse(l); } catch { return l; } });
  }

  async hub() {
    const p = this.start('hubserver', '--addr', '127.0.0.1:0', '--data', this.path('hub'), '--json', '--log', 'warn');
    const { url } = await p.next('listening');
    this.hubURL ??= url + '/hub';
    return { url: url + '/hub', process: p };
  }

  async import(db, docs) {
    await this.loveseat(['import', this.path(db), '-', '--json'], { stdin: docs.map(d => JSON.stringify(d)).join('\n') });
  }

  export(db) { return this.loveseat(['export', this.path(db)]); }

  /** Shares a local database by `loveseat share`. */
  async share(hub, db, ...args) {
    const p = this.start('loveseat', 'share', hub, this.path(db), '--json', ...args);
    return { ...await p.next('shared'), process: p };
  }

  /** Opens a share by `loveseat open` and returns its URL. */
  async open(hub, ref, ...args) {
    const p = this.start('loveseat', 'open', hub, ref, '--json', ...args);
    return { ...await p.next('open'), process: p };
  }

  /** Starts a browser, once. */
  async launch(kind) {
    return this.browsers[kind] ??= kind === 'firefox'
      ? puppeteer.launch({ browser: 'firefox', executablePath: firefoxPath, headless: true, extraPrefsFirefox: { 'network.dns.localDomains': foreignName } })
      : chromium.launch({ executablePath: chromiumPath, headless: true, args: chromiumFlags });
  }

  /** Opens a page in a browser profile of its own, which page.end closes. */
  async page(path = '/', kind = 'chromium') {
    const browser = await this.launch(kind);
    const context = await (kind === 'firefox' ? browser.createBrowserContext() : browser.newContext());
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    page.end = () => context.close();
    page.logs = [];
    page.on('console', m => page.logs.push(`${m.type()}: ${m.text()}`));
    page.on('pageerror', e => page.logs.push(`error: ${e.stack}`));
    if (path === '/') {
      await this.load(page);
      return page;
    }
    await page.route('https://cdn.jsdelivr.net/**', r => r.fulfill({ path: files['/pouchdb.js'] }));
    await page.goto(`${this.origin}${path}?hub=${encodeURIComponent(this.hubURL)}`);
    return page;
  }

  async load(page) {
    await page.goto(this.origin);
    await page.waitForFunction('window.ready');
  }

  async close() {
    for (const b of Object.values(this.browsers)) await (await b).close();
    for (const end of this.ending.reverse()) await end();
    this.server.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Repeats check until it returns something truthy, which it returns. */
export async function eventually(check, ms = 20_000) {
  for (const till = Date.now() + ms; ;) {
    let error;
    try {
      const v = await check();
      if (v) return v;
    } catch (e) { error = e; }
    if (Date.now() > till) throw error ?? new Error(`not within ${ms} ms: ${check}`);
    await new Promise(r => setTimeout(r, 30));
  }
}
