// Builds dist/loveseat.js, which is all that a page needs that opens shares, and
// dist/sharing.js, which it loads when it first shares a database. Types are in lib/.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const limit = 15 << 10; // bytes of dist/loveseat.js, gzipped

process.chdir(fileURLToPath(new URL('.', import.meta.url)));
rmSync('lib', { recursive: true, force: true });
rmSync('dist', { recursive: true, force: true });
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc'], { stdio: 'inherit' });
const options = { bundle: true, minify: true, format: 'esm', target: 'es2022', logLevel: 'warning' };
await build({ ...options, entryPoints: ['lib/index.js'], outfile: 'dist/loveseat.js', external: ['./sharing.js'] });
await build({ ...options, entryPoints: ['lib/sharing.js'], outfile: 'dist/sharing.js' });

const size = file => gzipSync(readFileSync(file), { level: 9 }).length;
console.log(`dist/loveseat.js ${size('dist/loveseat.js')} bytes gzipped, dist/sharing.js ${size('dist/sharing.js')}`);
if (size('dist/loveseat.js') > limit) throw new Error(`dist/loveseat.js is larger than ${limit} bytes gzipped`);
