// Numbers, sizes and times as people read them.

export const count = (n: number) => n.toLocaleString('en');

/** "1 document", "2,000 documents". */
export const many = (n: number, one: string, more = one + 's') => `${count(n)} ${n === 1 ? one : more}`;

/** "12 KB" of bytes, in powers of 1000. */
export function bytes(n: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let i = 0;
  for (; n >= 999.5 && i < units.length - 1; i++) n /= 1000;
  return `${i && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

const steps: [number, string][] = [[60, 's'], [60, 'min'], [24, 'h'], [Infinity, 'd']];

/** "5 min" of milliseconds. */
export function span(ms: number): string {
  let n = Math.max(0, Math.round(ms / 1000));
  for (const [size, unit] of steps) {
    if (n < size) return `${n} ${unit}`;
    n = Math.floor(n / size);
  }
  return '';
}

/** The beginning of a peer id, enough to tell peers apart and to compare by voice. */
export const code = (peer: string) => peer.split('-').slice(0, 2).join('-');
