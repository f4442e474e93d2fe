// A topic: every database that joins it replicates live with the others. A member shares its database, to read only,
// under the info {"topic": …}, and pulls from its neighbours: as Go's share/pool.go, with which it interoperates.
import { badRequest, CouchError } from './errors.js';
import { concat, sha256, toHex, utf8 } from './encoding.js';
import { jitter } from './hub.js';
import { checkOptions, type Kind } from './options.js';
import type { Peer, SharedDatabase, SharesChange } from './peer.js';
import type { Pouch } from './pouch.js';
import type { Remote } from './remote.js';
import { checkName, type Share } from './share.js';
import type { Sharing } from './sharing.js';

/** Which way documents go between this database and another member's. */
export type Direction = 'both' | 'pull' | 'push';

/** How to take part in a topic. The default takes part with everybody who joins it. */
export interface TopicOptions {
  /** What others see beside the topic. Default: the database's name. */
  name?: string;
  /** Which way documents go, by the other's verified peer id. What passes is what both allow. */
  direction?: (peer: string) => Direction;
  /** Is asked about a peer before this page pulls from it, and when it comes to pull from here. An error, a rejected promise or false refuses it. */
  accept?: (peer: string) => unknown;
  /** From how many peers the page pulls at a time: even, and the same for all members. Default: 8. */
  maxPeers?: number;
  /** Pulls design documents, too. */
  designDocs?: boolean;
  /** Is told of what goes wrong; the topic goes on. */
  onError?: (e: { peer: string; share?: string; error: Error }) => void;
  /** Is told after each change of peers(). */
  onChange?: (peers: TopicPeer[]) => void;
}

/** Another member of the topic. */
export interface TopicPeer {
  share: SharedDatabase;
  /** known: no neighbour, its changes come through others; in-sync: all that it had is here; sending: nothing is pulled from it. */
  state: 'known' | 'connecting' | 'running' | 'in-sync' | 'sending' | 'failed' | 'refused';
  error?: Error;
  /** Documents pulled from it since it was connected. */
  pulled: number;
}

interface Member extends TopicPeer { stop?: AbortController }

const retryMin = 200, retryMax = 10_000, refusedIn = 60_000; // ms
const maxPassedOver = 3; // members that are down a ring is closed across, on each side

/**
 * Chooses those that self pulls from, among others' share ids: all, or its neighbours in several rings, in each of which
 * the members stand in another order, by hash. All come to the same choice by themselves (Go's share/pool_ring.go).
 */
export async function neighbours(topic: string, self: string, others: string[], limit: number, down: (id: string) => boolean): Promise<Set<string>> {
  if (others.length <= limit) return new Set(others);
  const chosen = new Set<string>();
  for (let n = 0; n < limit / 2; n++) {
    const place = async (id: string) => [toHex(await sha256(concat(new Uint8Array([0, 0, 0, n]), utf8(`${topic}\0${id}`)))), id] as const;
    const order = (await Promise.all([self, ...others].map(place))).sort(([a], [b]) => a < b ? -1 : 1).map(([, id]) => id);
    const at = order.indexOf(self);
    for (const step of [1, order.length - 1]) {
      for (let i = 1; i <= Math.min(maxPassedOver + 1, others.length); i++) {
        const id = order[(at + i * step) % order.length]!;
        chosen.add(id);
        if (!down(id)) break;
      }
    }
  }
  return chosen;
}

const options = {
  name: 'any', direction: 'function', accept: 'function', maxPeers: 'number', designDocs: 'boolean', onError: 'function', onChange: 'function',
} as const satisfies Record<keyof TopicOptions, Kind>;

const down = (m?: TopicPeer): boolean => m?.state === 'failed' || m?.state === 'refused';

/** A database's membership in a topic, until cancel or the page goes away. */
export class Topic {
  readonly #members = new Map<string, Member>(); // by share id
  readonly #news = new Set<() => void>();
  #unwatch = () => {};
  #met = false;
  #over = false;
  #choosing: Promise<void> = Promise.resolve();
  readonly #limit: number;

  private constructor(private readonly peer: Peer, private readonly sharing: Sharing, readonly topic: string, private readonly db: Pouch,
    private readonly o: TopicOptions) {
    const limit = o.maxPeers ?? 8;
    this.#limit = limit < 2 ? 8 : limit - limit % 2;
  }

  /** This database's own share. */
  share!: Share;

  static async join(peer: Peer, sharing: Sharing, topic: string, db: Pouch, o: TopicOptions): Promise<Topic> {
    try {
      checkName(topic);
    } catch (e) {
      throw badRequest('topic: ' + (e as Error).message);
    }
    checkOptions(o, options);
    const t = new Topic(peer, sharing, topic, db, o);
    t.share = await sharing.share(db, {
      name: o.name, info: { topic }, readOnly: true,
      onRemote: async e => {
        if (t.#direction(e.peer) === 'pull') e.preventDefault('Documents go only from you to here.');
        else if (await o.accept?.(e.peer) === false) e.preventDefault();
      },
      onEvent: e => e.error && t.#report(e.remote?.peer ?? peer.id, undefined, e.error),
    }, topic);
    t.#unwatch = peer.watch(c => t.#note(c));
    return t;
  }

  #direction(peer: string): Direction {
    return this.o.direction?.(peer) ?? 'both';
  }

  #report(peer: string, share: string | undefined, error: Error): void {
    this.o.onError?.({ peer, share, error });
  }

  /** Takes in what the hub tells. */
  #note({ kind, share }: SharesChange): void {
    if (share.id === this.share.id) return;
    const m = this.#members.get(share.id), mine = kind !== 'gone' && (share.info as any)?.topic === this.topic;
    if (mine && m) {
      m.share = share;
      return;
    }
    if (mine) this.#members.set(share.id, { share, state: 'known', pulled: 0 });
    else if (m) {
      m.stop?.abort();
      this.#members.delete(share.id);
    } else return;
    this.#changed();
    this.#choose();
  }

  /** Links the database to its neighbours, and to no others. */
  #choose(): void {
    this.#choosing = this.#choosing.then(async () => {
      if (this.#over) return;
      const chosen = await neighbours(this.topic, this.share.id, [...this.#members.keys()], this.#limit, id => down(this.#members.get(id)));
      for (const [id, m] of this.#members) {
        if (chosen.has(id) && !m.stop) void this.#link(m);
        else if (!chosen.has(id) && m.stop) {
          m.stop.abort();
          m.stop = undefined;
          this.#set(m, 'known');
        }
      }
    });
  }

  #set(m: Member, state: TopicPeer['state'], error?: Error): void {
    if (m.state === state && m.error === error) return;
    const was = down(m);
    Object.assign(m, { state, error });
    this.#changed();
    if (down(m) !== was) this.#choose();
  }

  /** Pulls from a member until its link is ended, whatever goes wrong. */
  async #link(m: Member): Promise<void> {
    const { signal } = m.stop = new AbortController(), { peer, id } = m.share;
    if (this.#direction(peer) === 'push') return this.#set(m, 'sending');
    for (let wait = retryMin; !signal.aborted && !this.#over; wait = Math.min(2 * wait, retryMax)) {
      let refused = false;
      try {
        if (await this.o.accept?.(peer) === false) throw new CouchError(403, 'forbidden', 'Not accepted here.');
        this.#set(m, 'connecting');
        const r = await this.peer.open(id);
        try {
          await this.#pull(m, r, signal);
        } finally {
          r.close();
        }
      } catch (e: any) {
        if (signal.aborted || this.#over) return;
        refused = e?.status === 403 || e?.status === 401;
        this.#set(m, refused ? 'refused' : 'failed', e as Error);
        this.#report(peer, id, e as Error);
      }
      await new Promise<void>(go => {
        const timer = setTimeout(go, jitter(refused ? refusedIn : wait));
        signal.addEventListener('abort', () => {
          clearTimeout(timer);
          go();
        });
      });
    }
  }

  /** Replicates from a member. It returns when it is ended, and throws when the replication fails for good. */
  #pull(m: Member, r: Remote, signal: AbortSignal): Promise<void> {
    const PouchDB = this.db.constructor as any;
    const remote = quiet(new PouchDB(r.url, { fetch: r.fetch, skip_setup: true }));
    const filter = this.o.designDocs ? {} : { filter: function notDesign(doc: any) { return !doc._id.startsWith('_design/'); } };
    return new Promise<void>((resolve, reject) => {
      const live = PouchDB.replicate(remote, this.db, { live: true, retry: true, batch_size: 500, back_off_function: (d: number) => Math.min(jitter(d * 2 || retryMin), retryMax), ...filter });
      const stop = () => live.cancel();
      signal.addEventListener('abort', stop);
      live.on('active', () => this.#set(m, 'running'))
        .on('change', (c: any) => {
          this.#met = true;
          m.pulled += c.docs?.length ?? 0;
          this.#changed();
        })
        .on('denied', (e: any) => this.#report(m.share.peer, m.share.id, e.doc ?? e))
        .on('paused', (e?: Error) => {
          if (!e) this.#met = true;
          else this.#report(m.share.peer, m.share.id, e);
          this.#set(m, e ? 'failed' : 'in-sync', e);
        })
        .on('complete', () => resolve())
        .on('error', reject);
      live.catch(() => {});
      if (signal.aborted) stop();
    }).finally(() => remote.close().catch(() => {}));
  }

  #changed(): void {
    for (const go of [...this.#news]) go();
    this.o.onChange?.(this.peers());
  }

  /** The other live members. */
  peers(): TopicPeer[] {
    return [...this.#members.values()].map(({ stop: _, ...m }) => m);
  }

  async #await(ok: () => boolean): Promise<void> {
    while (!ok()) {
      if (this.#over) throw new Error('The topic was left.');
      await new Promise<void>(go => {
        const once = () => {
          this.#news.delete(once);
          go();
        };
        this.#news.add(once);
      });
    }
  }

  /** Waits until a member has been connected. */
  awaitFirstPeer(): Promise<void> {
    return this.#await(() => this.#met);
  }

  /** Waits until everything that the neighbours had is here: those that can be reached; at once if there are none. */
  awaitInSync(): Promise<void> {
    return this.#await(() => {
      const states = [...this.#members.values()].map(m => m.state), any = (s: string) => states.includes(s as never);
      return !any('connecting') && !any('running') && (any('in-sync') || !any('failed') && !(any('known') && !this.#met));
    });
  }

  /** Leaves the topic. */
  async cancel(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#unwatch();
    for (const m of this.#members.values()) m.stop?.abort();
    this.#changed();
    await this.sharing.unshare(this.share.id);
  }
}

/** PouchDB's replication asks info() after each batch and looks at no error, which would be unhandled when a link is cut just then. */
function quiet(remote: any): any {
  const info = remote.info.bind(remote);
  remote.info = () => {
    const p = info(), then = p.then.bind(p);
    p.then = (...fns: any[]) => {
      const next = then(...fns);
      next.catch(() => {});
      return next;
    };
    return p;
  };
  return remote;
}
