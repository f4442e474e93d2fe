import { badRequest } from './errors.js';
import { GoneError, type Remote } from './remote.js';
import { type JoinOptions, Peer, scheme, type SharedDatabase, type SharesChange } from './peer.js';
import type { Pouch } from './pouch.js';
import type { ShareOptions } from './share.js';
import type { Topic, TopicOptions } from './topic.js';

type Callback<T> = (error: unknown, value?: T) => void;

/** The live shares of a hub; with onChange it is told of changes until cancel. */
export type SharedDatabases = SharedDatabase[] & { cancel(): void };

/** What the plugin adds to a PouchDB database that is a hub. */
export interface LoveseatHub {
  /** Joins the hub with options, which count for the first call on a hub only, and returns this page's peer in it. */
  joinHub(options?: JoinOptions): Promise<Peer>;
  /** Shares a database with the hub's peers. */
  shareDatabase(db: Pouch, options?: ShareOptions, callback?: Callback<SharedDatabase>): Promise<SharedDatabase>;
  shareDatabase(db: Pouch, callback: Callback<SharedDatabase>): Promise<SharedDatabase>;
  /** Takes part in a topic: the database replicates live with those of all peers that join it. */
  joinTopic(topic: string, db: Pouch, options?: TopicOptions, callback?: Callback<Topic>): Promise<Topic>;
  /** Ends the share of a database. */
  unshareDatabase(db: Pouch, callback?: Callback<void>): Promise<void>;
  /** Returns the hub's live shares; onChange is told of later changes. */
  getSharedDatabases(options?: { onChange?: (c: SharesChange) => void }, callback?: Callback<SharedDatabases>): Promise<SharedDatabases>;
  getSharedDatabases(callback: Callback<SharedDatabases>): Promise<SharedDatabases>;
  /** Leaves the hub: ends its shares and what is open. */
  leaveHub(callback?: Callback<void>): Promise<void>;
}

const peers = new Map<string, Promise<Peer>>(); // by the hub's name

function join(hub: Pouch, o: JoinOptions = {}): Promise<Peer> {
  const known = peers.get(hub.name);
  if (known) return known;
  if (!hub.fetch) return Promise.reject(badRequest('A hub is a PouchDB with a URL: new PouchDB("https://host/hub").'));
  const made = Peer.join({ hub: hub.name, fetch: (path, init) => hub.fetch!(path, init), ...o });
  peers.set(hub.name, made);
  made.catch(() => peers.delete(hub.name)); // the next call tries again
  return made;
}

/** Calls a method and gives what it promises to a callback too. The last argument, if it is a function, is the callback. */
function call(hub: Pouch, name: string, args: any[]): Promise<unknown> {
  const callback: Callback<unknown> | undefined = typeof args.at(-1) === 'function' ? args.pop() : undefined;
  const p = methods[name]!(hub, ...args);
  if (callback) p.then(v => callback(null, v), e => callback(e));
  return p;
}

/** The methods, which get the hub that they are called on. */
const methods: Record<string, (hub: Pouch, ...args: any[]) => Promise<unknown>> = {
  joinHub: join,
  shareDatabase: async (hub, db: Pouch, o?: ShareOptions) => (await join(hub)).share(db, o),
  joinTopic: async (hub, topic: string, db: Pouch, o?: TopicOptions) => (await join(hub)).join(topic, db, o),
  unshareDatabase: async (hub, db: Pouch) => (await join(hub)).unshare(db),
  async getSharedDatabases(hub, { onChange }: { onChange?: (c: SharesChange) => void } = {}) {
    const peer = await join(hub), shares = await peer.shares();
    let told = false; // not of those that are in the answer
    const unwatch = onChange && peer.watch(c => told && onChange(c));
    told = true;
    return Object.assign(shares, { cancel: () => unwatch?.() });
  },
  async leaveHub({ name }) {
    const peer = peers.get(name);
    peers.delete(name);
    await (await peer)?.close();
  },
};

let opened = 0;

/** Opens a share in whichever of the joined hubs has it. */
async function find(id: string): Promise<Remote> {
  let why = 'No hub was joined: call hub.getSharedDatabases() before opening a share.';
  for (const p of [...peers.values()]) {
    try {
      return await (await p).open(id);
    } catch (e) {
      why = (e as Error).message;
    }
  }
  throw new GoneError(why); // not 404, which PouchDB's replication would take for that of a checkpoint
}

/** The adapter of shares: PouchDB's own for HTTP, whose requests go to the sharer. */
function adapterOver(http: Function): Function {
  function adapter(this: any, options: any, callback: (e: unknown, api?: any) => void): void {
    let remote: Promise<Remote> | undefined;
    const open = () => {
      remote ??= find(options.name);
      remote.catch(() => remote = undefined);
      return remote;
    };
    const fetch = async (url: string, init?: RequestInit) => {
      const r = await open(), u = new URL(url);
      // The path is that of our own host name up to "db", which stands for the database.
      return r.fetch(u.pathname.replace(/^\/db(?=\/|$)/, '/' + encodeURIComponent(r.dbName)) + u.search, init);
    };
    // PouchDB remembers per origin what a server cannot do: an origin for each connection.
    const name = `http://c${++opened}.${options.name.split('#')[0]}/db`;
    http.call(this, { ...options, name, fetch, skip_setup: true }, (e: unknown, api: any) => {
      if (api) {
        /** The share, for custom messages. */
        api.remote = open;
        api._close = (done: () => void) => {
          void remote?.then(r => r.close(), () => {});
          done();
        };
      }
      callback(e, api);
    });
  }
  adapter.valid = () => true;
  adapter.use_prefix = false;
  return adapter;
}

/** The plugin: PouchDB.plugin(Loveseat). It needs PouchDB's http adapter, which all its builds have. */
export function Loveseat(PouchDB: any): void {
  for (const name in methods) PouchDB.prototype[name] = function (this: Pouch, ...args: any[]) { return call(this, name, args); };
  const http = PouchDB.adapters.http;
  if (!http) throw new Error('Loveseat needs pouchdb-adapter-http.');
  PouchDB.adapter(scheme, adapterOver(http), false);
}
