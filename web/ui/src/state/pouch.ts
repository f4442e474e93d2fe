// PouchDB, which is loaded when the page first needs it, and the databases in this browser.
import { signal } from '@preact/signals';
import { Database } from './couch.js';

export type Pouch = any; // PouchDB has no types of its own

let loading: Promise<Pouch> | undefined;

/** The PouchDB constructor. */
export function loadPouch(): Promise<Pouch> {
  loading ??= Promise.all([import('pouchdb-browser'), import('pouchdb-find')]).then(([{ default: PouchDB }, { default: find }]) => {
    PouchDB.plugin(find);
    return PouchDB;
  });
  loading.catch(() => loading = undefined);
  return loading;
}

const prefix = '_pouch_';
/** Counts what was made and destroyed. */
export const turn = signal(0);

/** The names of the databases in this browser. */
export async function localNames(): Promise<string[]> {
  const all = await indexedDB.databases();
  return all.flatMap(d => d.name?.startsWith(prefix) && !d.name.includes('-mrview-') ? [d.name.slice(prefix.length)] : []).sort();
}

const open = new Map<string, Pouch>();

/** A database in this browser, made if it is missing. */
export async function local(name: string): Promise<Pouch> {
  const PouchDB = await loadPouch();
  let db = open.get(name);
  if (!db) open.set(name, db = new PouchDB(name, { auto_compaction: false }));
  await db.info(); // it exists from now on
  return db;
}

export async function destroyLocal(name: string): Promise<void> {
  await (await local(name)).destroy();
  open.delete(name);
  turn.value++;
}

/** A database in this browser by the same API as those elsewhere: what the plugin serves to peers answers. */
export async function localDatabase(name: string): Promise<Database> {
  const [db, { couchHandler }] = await Promise.all([local(name), import('pouchdb-loveseat/couch.js')]);
  const handler = couchHandler(db, { name: 'db', uuid: name, readOnly: false, peer: 'this-page' });
  return new Database('http://here/db', (url, init) => Promise.resolve(handler(new Request(url, init))));
}
