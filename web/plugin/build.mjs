// Builds dist/loveseat.js, which is all that a page needs that opens shares, and what it loads when it
// is used: dist/sharing.js shares databases, dist/custom.js asks for custom messages, dist/relay.js goes through the hub, dist/rare.js is for the rest. Types are in lib/.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { minify } from 'terser';

const limit = 15_000; // bytes of dist/loveseat.js, gzipped
const later = ['sharing', 'custom', 'relay', 'rare'];

process.chdir(fileURLToPath(new URL('.', import.meta.url)));
rmSync('lib', { recursive: true, force: true });
rmSync('dist', { recursive: true, force: true });
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc'], { stdio: 'inherit' });
const options = { bundle: true, minify: true, format: 'esm', target: 'es2022', logLevel: 'warning' };
await build({ ...options, entryPoints: ['lib/index.js'], outfile: 'dist/loveseat.js', external: later.map(name => `./${name}.js`) });
for (const name of later) await build({ ...options, entryPoints: [`lib/${name}.js`], outfile: `dist/${name}.js` });
// Names that only the plugin's own parts use among themselves are shortened, in all of them alike: neither the API nor JSON nor the browser has them.
const inner = /^(superseded|relaying|negotiation|onStream|sealKey|signaler|onSignal|makeRoom|offered|routed|forget|attempt|abandon|resend|sequence|identify|discard|nudge|keysOf|makeLink|intro|conns|idle|sessions|offer|receive|directory|onEnd|onData|goAway|alive|moved|room|mailbox|wire|full|direct|bye|held|release)$/, nameCache = {};
for (const name of ['loveseat', ...later]) { // 4 % smaller than esbuild's alone
  const file = `dist/${name}.js`, compress = { passes: 3, unsafe: true, unsafe_arrows: true, keep_fargs: false, if_return: false, unsafe_comps: true };
  const { code } = await minify(readFileSync(file, 'utf8'), { module: true, ecma: 2022, compress, mangle: { properties: { regex: inner } }, nameCache });
  writeFileSync(file, code);
}

const size = file => gzipSync(readFileSync(file), { level: 9 }).length;
console.log(['loveseat', ...later].map(name => `dist/${name}.js ${size(`dist/${name}.js`)} bytes gzipped`).join(', '));
if (size('dist/loveseat.js') > limit) throw new Error(`dist/loveseat.js is larger than ${limit} bytes gzipped`);
