import { couchHandler, errorAnswer } from './couch.js';
import { type Access, checkInfo, checkName, published, readShare, type ShareDoc, shareID, shareNonce, sharePrefix, formatTime, sign } from './documents.js';
import { badRequest, CouchError, forbidden } from './errors.js';
import type { Handler } from './httpserver.js';
import { jitter, pause } from './hub.js';
import { peerOf } from './identity.js';
import type { Link } from './link.js';
import type { Peer } from './peer.js';
import type { Pouch } from './pouch.js';
import type { Stream } from './yamux.js';

/** What a sharer knows of a peer that opens its share. */
export interface RemoteInfo {
  /** Share id and name. */
  share: string; name: string;
  /** Peer id, verified. */
  peer: string;
  /** How its packets travel: see Link. */
  route: string;
}

/** Tells that a peer opens a share for the first time. */
export interface RemoteEvent extends RemoteInfo {
  defaultPrevented: boolean;
  /** Refuses the peer: it gets 403 with the reason. */
  preventDefault(reason?: string): void;
}

/** Something that happened to a share that is served here. */
export interface ShareEvent {
  kind: 'opened' | 'closed' | 'refused' | 'failed' | 'ended';
  remote?: RemoteInfo;
  error?: Error;
}

/** How a database is shared. */
export interface ShareOptions {
  /** What others see and may open it by: 1 to 256 bytes of printable text. Default: the database's name. */
  name?: string;
  /** Any JSON for the others to see, at most 32 KiB. */
  info?: unknown;
  /** Lets others read and pull only. */
  readOnly?: boolean;
  /** Is asked when a peer opens the share, and may take its time: preventDefault, or an error, refuses it. */
  onRemote?: (e: RemoteEvent) => unknown;
  /** Is told of what happens to the share. */
  onEvent?: (e: ShareEvent) => void;
}

interface Remote { info: RemoteInfo; streams: Set<Stream>; refused: Promise<CouchError | undefined>; handler: Handler; opened?: boolean }

const maxLocals = 256; // _local documents of one peer
const minRenewal = 5000; // ms: how soon the document is written again when it disappears

/** A database that is published in a hub and served to its peers. */
export class Share {
  #rev?: string;
  #published = 0;
  readonly #remotes = new Map<string, Remote>(); // by address
  readonly #locals = new Map<string, Set<string>>(); // by peer
  readonly #over = new AbortController();
  #soon = new AbortController();

  private constructor(private readonly peer: Peer, readonly db: Pouch, readonly id: string, private readonly nonce: string,
    readonly name: string, private readonly o: ShareOptions) {}

  /** Checks the options and puts a share together. Its id is the same for the same identity and database. */
  static async of(peer: Peer, db: Pouch, o: ShareOptions): Promise<Share> {
    const name = o.name ?? db.name;
    try {
      checkName(name);
      checkInfo(o.info);
    } catch (e) {
      throw badRequest((e as Error).message);
    }
    const nonce = await shareNonce(await db.id());
    return new Share(peer, db, await shareID(peer.id, nonce), nonce, name, o);
  }

  get access(): Access {
    return this.o.readOnly ? 'read' : 'read-write';
  }

  /** The database's name in URLs. */
  get dbName(): string {
    return this.db.name.slice(-64) || 'db';
  }

  #event(e: ShareEvent): void {
    try {
      this.o.onEvent?.(e);
    } catch (e) {
      console.error(e);
    }
  }

  /** Writes the share document: a new lease. */
  async publish(): Promise<void> {
    const { doc_count, update_seq } = await this.db.info(), lease = this.peer.lease;
    for (let attempt = 0; ; attempt++) {
      this.#published = Math.max(Date.now(), this.#published + 1); // readers ignore what is older than they have
      const doc: ShareDoc = {
        _id: sharePrefix + this.id, type: 'share', v: 1, name: this.name, info: this.o.info, db: this.dbName, peer: this.peer.id,
        instance: this.peer.instance, keys: this.peer.identity.keys, nonce: this.nonce, access: this.access, doc_count,
        update_seq: String(update_seq), published: formatTime(this.#published), expires: formatTime(this.#published + lease),
      };
      const signed = await sign(this.peer.identity, doc);
      if (this.#over.signal.aborted) return;
      try {
        this.#rev = await this.peer.hub.put(this.#rev ? { ...signed, _rev: this.#rev } : signed);
        return await this.peer.directory.apply(signed._id, signed);
      } catch (e) {
        if ((e as CouchError).status !== 409 || attempt === 2) throw e; // it comes of another bundle: no instanceof
        await this.#catchUp();
      }
    }
  }

  /** Reads the revision that is in the hub: of this share's last page, or written by someone who must not. */
  async #catchUp(): Promise<void> {
    const doc = await this.peer.hub.get(sharePrefix + this.id);
    const there = doc && await readShare(doc).catch(() => undefined);
    const newer = there && published(there) > this.#published;
    if (newer && this.#rev && there.instance !== this.peer.instance) {
      throw new CouchError(409, 'taken_over', 'Another page of this browser shares the same database.');
    }
    this.#rev = doc?._rev;
    if (newer) this.#published = published(there);
  }

  /** Keeps the lease until the share ends. */
  async renew(): Promise<void> {
    const { lease } = this.peer, { signal } = this.#over;
    const unwatch = this.peer.directory.watch(() => {
      if (Date.now() - this.#published > minRenewal && !this.peer.directory.get(this.id)) this.renewSoon();
    });
    for (let wait = lease / 3, retryIn = 1000; await pause(jitter(wait), this.#soon.signal), !signal.aborted;) {
      this.#soon = new AbortController();
      try {
        await this.publish();
        [wait, retryIn] = [lease / 3, 1000];
      } catch (e) {
        if ((e as CouchError).name === 'taken_over') {
          this.stop();
          this.#event({ kind: 'ended', error: e as Error });
          break;
        }
        this.#event({ kind: 'failed', error: e as Error });
        [wait, retryIn] = [retryIn, Math.min(2 * retryIn, Math.max(lease / 6, 1000))];
      }
    }
    unwatch();
  }

  /** Renews the lease without waiting for its time. */
  renewSoon(): void {
    this.#soon.abort();
  }

  /** Answers one request for the share. */
  async handle(request: Request, link: Link, stream: Stream): Promise<Response> {
    if (this.#over.signal.aborted) return refuse(new CouchError(404, 'not_found', 'No longer shared.'));
    const r = this.#admit(link, stream), refused = await r.refused;
    return refused ? refuse(refused) : r.handler(request);
  }

  /** Lets a peer in, after asking onRemote when it comes for the first time. */
  #admit(link: Link, stream: Stream): Remote {
    let r = this.#remotes.get(link.peer);
    if (!r) {
      const peer = peerOf(link.peer);
      const info = { share: this.id, name: this.name, peer, route: link.route };
      const handler = couchHandler(this.db, {
        name: this.dbName, uuid: this.id, readOnly: !!this.o.readOnly, peer, allowLocal: id => this.#allowLocal(peer, id),
      });
      const made: Remote = r = { info, streams: new Set(), refused: undefined!, handler };
      this.#remotes.set(link.peer, r);
      r.refused = this.#decide(info, link).then(refused => {
        this.#event(refused ? { kind: 'refused', remote: info, error: refused } : { kind: 'opened', remote: info });
        made.opened = !refused;
        return refused;
      });
    }
    r.streams.add(stream);
    return r;
  }

  async #decide(info: RemoteInfo, link: Link): Promise<CouchError | undefined> {
    await link.routed;
    info.route = link.route;
    let reason: string | undefined;
    const e: RemoteEvent = {
      ...info, defaultPrevented: false,
      preventDefault(why = 'The sharer refuses.') {
        e.defaultPrevented = true;
        reason = why;
      },
    };
    try {
      await this.o.onRemote?.(e);
    } catch (failed) {
      e.preventDefault((failed as Error).message);
    }
    return e.defaultPrevented ? forbidden(reason!) : undefined;
  }

  #allowLocal(peer: string, id: string): boolean {
    const mine = this.#locals.get(peer) ?? new Set();
    this.#locals.set(peer, mine);
    return mine.has(id) || (mine.size < maxLocals && !!mine.add(id));
  }

  /** Takes notice that a stream has closed; with its last one a peer has closed the share. */
  leave(link: Link, stream: Stream): void {
    const r = this.#remotes.get(link.peer);
    if (!r?.streams.delete(stream) || r.streams.size) return;
    this.#remotes.delete(link.peer);
    if (r.opened) this.#event({ kind: 'closed', remote: r.info });
  }

  /** The peers that have the share open. */
  get openers(): RemoteInfo[] {
    return [...this.#remotes.values()].filter(r => r.opened).map(r => r.info);
  }

  /** Ends serving: requests under way are cut off. */
  stop(): void {
    this.#over.abort();
    this.#soon.abort();
    for (const r of [...this.#remotes.values()]) for (const s of [...r.streams]) s.reset();
  }

  /** Ends the share and removes its document from the hub. keepalive: the page is going away. */
  async unshare(keepalive = false): Promise<void> {
    this.stop();
    for (let attempt = 0; this.#rev; attempt++) {
      const [w] = await this.peer.hub.write([{ _id: sharePrefix + this.id, _rev: this.#rev, _deleted: true }], keepalive);
      if (!w?.error || w.error === 'not_found') break;
      if (w.error !== 'conflict' || attempt === 2) throw new CouchError(403, w.error, w.reason ?? '');
      try {
        await this.#catchUp();
      } catch {
        return; // it is another page's now
      }
    }
    this.#rev = undefined;
    await this.peer.directory.apply(sharePrefix + this.id);
    this.#event({ kind: 'ended' });
  }
}

/** Answers with an error and closes the connection. */
export function refuse(e: CouchError): Response {
  const r = errorAnswer(e);
  r.headers.set('connection', 'close');
  return r;
}
