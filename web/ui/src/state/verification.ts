// The numbers by which people make sure that no other peer is between theirs.
import { signal } from '@preact/signals';

const known = signal<Record<string, string>>({});
const begun = new Set<string>();

/** The code of two peers; undefined while it is computed, which takes a moment. */
export function verificationOf(mine: string | undefined, theirs: string): string | undefined {
  if (!mine) return undefined;
  const pair = `${mine} ${theirs}`;
  if (!begun.has(pair)) {
    begun.add(pair);
    void import('pouchdb-loveseat/code.js').then(m => m.verificationCode(mine, theirs)).then(c => known.value = { ...known.value, [pair]: c });
  }
  return known.value[pair];
}
