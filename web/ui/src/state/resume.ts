// A tab goes on with what it did before it was loaded anew. What that needs is loaded only then.
import { kept, ofTab } from './keep.js';
import type { Direction } from './jobs.js';
import type { Place } from './place.js';
import type { How } from './sharing.js';

export async function resume(): Promise<void> {
  const shares = kept<[string, How, string][]>('shares', [], ofTab), jobs = kept<[string, Place, Direction, boolean][]>('jobs', [], ofTab);
  if (shares.length) await (await import('./sharing.js')).resume(shares);
  if (jobs.length) (await import('./jobs.js')).resume(jobs);
}
