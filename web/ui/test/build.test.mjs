// The page's files: the same in every build, small, and nothing that its policy forbids.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const ui = fileURLToPath(new URL('..', import.meta.url)), built = join(ui, '../dist/ui');
const dir = mkdtempSync(join(tmpdir(), 'loveseat-ui-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const files = at => Object.fromEntries(readdirSync(at, { recursive: true, withFileTypes: true }).filter(e => e.isFile())
  .map(e => join(e.parentPath ?? e.path, e.name)).map(f => [f.slice(at.length + 1), readFileSync(f)]).sort());
const zipped = b => gzipSync(b, { level: 9 }).length;

test('the page is built byte for byte the same each time', () => {
  const again = join(dir, 'again');
  execFileSync(process.execPath, [join(ui, 'node_modules/vite/bin/vite.js'), 'build', '--logLevel', 'error', '--outDir', again, '--emptyOutDir'], { cwd: ui, stdio: 'inherit' });
  const a = files(built), b = files(again);
  assert.deepEqual(Object.keys(a), Object.keys(b));
  for (const [name, bytes] of Object.entries(a)) assert.ok(bytes.equals(b[name]), name);
});

test('what is loaded first is at most 60 KB gzipped, and PouchDB is not in it', () => {
  const all = files(built), html = all['index.html'].toString();
  const first = ['index.html', ...[...html.matchAll(/(?:src|href)="\/_utils\/([^"]+)"/g)].map(m => m[1])];
  // What the entry itself imports at once is loaded with it.
  for (const name of first) for (const m of all[name].toString().matchAll(/(?:from|import)\s*"\.\/([^"]+\.js)"/g)) if (!first.includes('assets/' + m[1])) first.push('assets/' + m[1]);
  const size = first.reduce((n, f) => n + zipped(all[f]), 0);
  console.log(`first load: ${size} bytes gzipped in ${first.length} files`);
  assert.ok(size <= 60_000, `${size} bytes`);
  assert.ok(first.length >= 3 && !first.some(f => all[f].includes('_pouch_check_localstorage')), 'PouchDB is loaded at once');
});

test('the page has no inline script, style or handler, and names no other host', () => {
  const html = files(built)['index.html'].toString();
  assert.doesNotMatch(html, /<style|<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=/i);
  assert.doesNotMatch(html, /(?:src|href)="(?!\/_utils\/)/);
});
