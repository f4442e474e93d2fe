// For whom a database is shared: when it is shared again and somebody is left out, its share has another id. It is
// kept in the shared database, in "_local/loveseat-audience-<share id>", as Go's share/audience.go does.
import { randomHex } from './encoding.js';
import type { Pouch } from './pouch.js';

export interface Audience { asked?: boolean; invited?: boolean; allow?: string[] }

const everybody = (a: Audience): boolean => !a.asked && !a.invited && !a.allow?.length;

/** Whether nobody of another audience is left out. */
export function includes(a: Audience, other: Audience): boolean {
  if (everybody(a) || everybody(other)) return everybody(a);
  return (!!a.asked || !other.asked) && (!!a.invited || !other.invited) && (other.allow ?? []).every(who => a.allow?.includes(who));
}

/** Reads the last audience of a share and its turn. base is the id that the share has for its first audience. */
async function last(db: Pouch, base: string): Promise<Audience & { turn?: string; _rev?: string }> {
  try {
    return await db.get(`_local/loveseat-audience-${base}`) as Audience & { turn?: string; _rev: string };
  } catch (e) {
    if ((e as { status?: number }).status !== 404) throw e;
    return {};
  }
}

/** Returns what makes the id of the share for an audience, besides the database: a new turn if somebody of the last one is left out. */
export async function turnOf(db: Pouch, base: string, audience: Audience): Promise<string> {
  const { _rev, turn: old = '', ...was } = await last(db, base), turn = !_rev || includes(audience, was) ? old : randomHex(16);
  if (!_rev || turn !== old || !includes(was, audience)) {
    await db.put({ _id: `_local/loveseat-audience-${base}`, ..._rev && { _rev }, ...audience, ...turn && { turn } });
  }
  return turn;
}

/** Whether another page has shared the database to others in the meantime. */
export const superseded = async (db: Pouch, base: string, turn: string): Promise<boolean> => ((await last(db, base)).turn ?? '') !== turn;
