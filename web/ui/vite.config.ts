import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const path = (p: string) => fileURLToPath(new URL(p, import.meta.url));

export default defineConfig({
  base: '/_utils/',
  root: path('.'),
  cacheDir: path('node_modules/.vite'),
  resolve: { alias: { 'pouchdb-loveseat': path('../plugin/src') } },
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', target: 'es2022', legalComments: 'none' },
  build: {
    outDir: path('../dist/ui'), emptyOutDir: true, target: 'es2022', assetsInlineLimit: 0, sourcemap: false, reportCompressedSize: false,
    modulePreload: { polyfill: false }, chunkSizeWarningLimit: 700,
  },
  // For work on the page: npx vite, beside a hubserver.
  server: { proxy: { '^/(?!_utils/(?!config.json))': process.env.HUB ?? 'http://127.0.0.1:5984' } },
});
