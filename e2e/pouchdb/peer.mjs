// A real PouchDB that does what its standard input says: one JSON step a line,
// {"do": NAME, …}, answered by one line {"event": "answer", "value": …} or
// {"event": "answer", "error": {status, name, reason}}. Databases are named by a
// directory (leveldb), by "memory:NAME" or by the URL of a CouchDB database.
import {createInterface} from 'node:readline';
import PouchDB from 'pouchdb';
import memory from 'pouchdb-adapter-memory';
import find from 'pouchdb-find';

PouchDB.plugin(memory).plugin(find);

const databases = new Map();

function database(name) {
  if (!databases.has(name)) {
    const [path, adapter] = name.startsWith('memory:') ? [name.slice(7), 'memory'] : [name];
    databases.set(name, new PouchDB(path, {adapter, skip_setup: true}));
  }
  return databases.get(name);
}

const running = new Map(); // live syncs, by name
let listener; // the running changes feed

const steps = {
  // Any method of a database.
  call: ({db, method, args = []}) => database(db)[method](...args),

  attachment: async ({db, id, name}) => {
    const data = await database(db).getAttachment(id, name);
    return data.toString('base64');
  },

  attach: ({db, id, name, rev, data, type}) =>
    database(db).putAttachment(id, name, rev, Buffer.from(data, 'base64'), type),

  sync: async ({a, b, options = {}}) => {
    const r = await PouchDB.sync(database(a), database(b), options);
    return {pushed: counts(r.push), pulled: counts(r.pull)};
  },

  replicate: async ({from, to, options = {}}) =>
    counts(await PouchDB.replicate(database(from), database(to), options)),

  live: ({a, b, name = 'live'}) => {
    const live = PouchDB.sync(database(a), database(b), {live: true, retry: true, back_off_function: () => 200});
    live.on('error', fail);
    running.set(name, live);
    live.again = () => {
      live.cancel();
      steps.live({a, b, name});
    };
    return true;
  },

  stop: async ({name = 'live'}) => {
    const live = running.get(name);
    const done = new Promise(resolve => live.on('complete', resolve));
    live.cancel();
    const r = await done;
    return {pushed: counts(r.push), pulled: counts(r.pull)};
  },

  // upsert writes a document over the winner, whatever that is.
  upsert: async ({db, doc}) => {
    for (;;) {
      const _rev = await database(db).get(doc._id).then(d => d._rev, e => { if (e.status !== 404) throw e; });
      try {
        return await database(db).put(_rev ? {...doc, _rev} : doc);
      } catch (e) {
        if (e.status !== 409) throw e;
        if (doc._deleted && !_rev) return null; // it is deleted already
      }
    }
  },

  // listen follows a database's changes from now on; heard waits for so many of them.
  listen: async ({db}) => {
    const {update_seq} = await database(db).info(); // "now" would be the time when the feed's request arrives
    const ids = [];
    let wake = () => {};
    const feed = database(db).changes({live: true, since: update_seq});
    feed.on('change', c => { ids.push(c.id); wake(); });
    feed.on('error', fail);
    listener = {feed, ids, woken: () => new Promise(r => { wake = r; })};
    return true;
  },

  heard: async ({count}) => {
    while (listener.ids.length < count) await listener.woken();
    listener.feed.cancel();
    return listener.ids;
  },
};

function counts(r) {
  return {docs_read: r.docs_read, docs_written: r.docs_written, doc_write_failures: r.doc_write_failures,
    errors: (r.errors ?? []).map(e => ({id: e.id, error: e.name ?? e.error, reason: e.reason ?? e.message}))};
}

function fail(e) {
  console.error(e);
  process.exit(1);
}

const print = line => process.stdout.write(JSON.stringify({event: 'answer', ...line}) + '\n');

// A PouchDB of which a connection breaks while it begins to replicate forgets to catch the error
// and replicates no more; a page would have to begin anew, as is done here.
process.on('unhandledRejection', e => {
  if (e?.type !== 'system') fail(e);
  console.error('replicating anew after', e.message);
  for (const live of running.values()) live.again();
});

process.on('SIGINT', () => process.exit(0));

for await (const line of createInterface({input: process.stdin})) {
  const step = JSON.parse(line);
  try {
    print({value: await steps[step.do](step) ?? null});
  } catch (e) {
    print({error: {status: e.status ?? 0, name: e.name, reason: e.reason ?? e.message}});
  }
}
process.exit(0);
