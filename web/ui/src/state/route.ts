// Where in the page one is: the path below the page's base, and the query. Links are
// ordinary ones; those into the page change the screen without loading it again.
import { computed, signal } from '@preact/signals';

export const base = '/_utils/';

const place = signal(new URL(location.href));

/** The segments of the path, unescaped: ["shares", "hub", "abc"]. */
export const segments = computed(() => place.value.pathname.slice(base.length).split('/').filter(Boolean).map(s => {
  try { return decodeURIComponent(s); } catch { return s; }
}));

export const query = computed(() => place.value.searchParams);
export const fragment = computed(() => place.value.hash.slice(1));

/** The URL of a screen. Undefined and empty values are left out of the query. */
export function to(path: (string | number)[], values: Record<string, string | number | undefined> = {}): string {
  const q = new URLSearchParams(Object.entries(values).flatMap(([k, v]) => v === undefined || v === '' ? [] : [[k, String(v)]]));
  return base + path.map(s => encodeURIComponent(s).replace(/^\.\.?$/, d => d.replaceAll('.', '%2E'))).join('/') + (q.size ? '?' + q : '');
}

/** Goes to a URL of the page. */
export function go(url: string, replace = false): void {
  const same = new URL(url, location.href).pathname === location.pathname;
  if (replace) history.replaceState(null, '', url);
  else history.pushState(null, '', url);
  place.value = new URL(location.href);
  if (same) return;
  scrollTo(0, 0);
  queueMicrotask(() => document.querySelector<HTMLElement>('main')?.focus({ preventScroll: true })); // so that readers begin with the new screen
}

/** Follows the browser's buttons and the page's links. */
export function followLinks(): void {
  addEventListener('popstate', () => place.value = new URL(location.href));
  document.addEventListener('click', e => {
    const a = (e.target as Element).closest?.('a');
    if (!a || e.defaultPrevented || e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey || a.target || a.hasAttribute('download')) return;
    const url = new URL(a.href);
    if (url.origin !== location.origin || !url.pathname.startsWith(base) || a.getAttribute('href')!.startsWith('#')) return;
    e.preventDefault();
    go(a.href);
  });
}

/** The URL of a share's documents. */
export const browseShare = (hub: string, id: string) => to(['browse', 'share', hub, id]);
