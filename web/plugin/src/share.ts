import { Admission, type Invite, type InviteOptions, readInfo } from './admission.js';
import { superseded, turnOf } from './audience.js';
import { type KeyLink, linksInHub, linksOf } from './chain.js';
import { verificationCode } from './code.js';
import { couchHandler, errorAnswer } from './couch.js';
import { type Access, type Doc, type Admission as AdmissionKind, goodInfo, goodName, published, readShare, type ShareDoc, shareID, shareNonce, sharePrefix, formatTime, sign } from './documents.js';
import { badRequest, CouchError, forbidden, notFound } from './errors.js';
import { type Limits, View } from './filter.js';
import type { Handler } from './httpserver.js';
import { jitter, pause } from './hub.js';
import { peerOf } from './identity.js';
import type { Link } from './link.js';
import { Messages, type RequestHandler } from './messages.js';
import { checkOptions, type Kind } from './options.js';
import type { Peer } from './peer.js';
import type { Pouch } from './pouch.js';
import { readSuccession } from './succession.js';
import type { Stream } from './yamux.js';

/** What a sharer knows of a peer that opens its share. */
export interface RemoteInfo {
  /** Share id and name. */
  share: string; name: string;
  /** Peer id, verified. */
  peer: string;
  /** How its packets travel: see Link. */
  route: string;
  /** What the peer tells of itself when it opens the share: not verified. */
  info?: unknown;
  /** Id of the invite that has let it in. */
  invite?: string;
  /** Peer ids that it had before, verified, the oldest first. */
  predecessors?: string[];
}

/** Tells that a peer opens a share for the first time. */
export interface RemoteEvent extends RemoteInfo {
  defaultPrevented: boolean;
  /** Refuses the peer: it gets 403 with the reason. */
  preventDefault(reason?: string): void;
  /** Admits the peer for good: it is not asked about again, until it is revoked. */
  always(): void;
}

/** Something that happened to a share that is served here. */
export interface ShareEvent {
  kind: 'opened' | 'closed' | 'refused' | 'failed' | 'ended' | 'revoked' | 'write_refused';
  remote?: RemoteInfo;
  error?: Error;
  /** Of a document whose write was refused. */
  id?: string;
}

/** How a database is shared. Without allow, invited and onRemote all peers of the hub may open it. */
export interface ShareOptions extends Limits {
  /** What others see and may open it by: 1 to 256 bytes of printable text. Default: the database's name. */
  name?: string;
  /** Any JSON for the others to see, at most 32 KiB. */
  info?: unknown;
  /** Lets others read and pull only. */
  readOnly?: boolean;
  /** Peer ids, or their first four groups at least, that are admitted. */
  allow?: string[];
  /** Admits peers with an invite: see Peer.invite. */
  invited?: boolean;
  /** Ends the share. */
  expires?: Date;
  /** Is asked when a peer that is not refused otherwise opens the share, and may take its time: preventDefault, or an error, refuses it. */
  onRemote?: (e: RemoteEvent) => unknown;
  /** Is asked about each document that a peer writes, replicated ones too: what it throws refuses the document with 403. */
  onWrite?: (doc: Doc, from: RemoteInfo) => unknown;
  /** Answer the custom requests of openers, by name. */
  requests?: Record<string, RequestHandler>;
  /** Is told what openers broadcast. */
  onMessage?: (m: { from: string; message: unknown }) => void;
  /** How many requests of one peer may be under way, waiting changes feeds among them. Default: 256. */
  maxRequests?: number;
  /** Is told of what happens to the share. */
  onEvent?: (e: ShareEvent) => void;
}

interface Remote {
  info: RemoteInfo; links: KeyLink[]; streams: Set<Stream>; refused: Promise<CouchError | undefined>; handler: Handler; opened?: boolean;
  running: number;
  /** Is aborted when the peer is revoked or has gone. */
  cut: AbortController;
}

const options = {
  name: 'any', info: 'any', readOnly: 'boolean', allow: 'array', invited: 'boolean', expires: 'date', filter: 'function', docIds: 'array',
  onRemote: 'function', onWrite: 'function', requests: 'any', onMessage: 'function', maxRequests: 'number', onEvent: 'function',
} as const satisfies Record<keyof ShareOptions, Kind>;

const takenOver = () => new CouchError(409, 'taken_over', 'Another page of this browser shares the same database.');
const relinkAfter = 500; // ms
const maxWelcome = 2000;
const minRenewal = 5000; // ms: how soon the document is written again when it disappears

/** Throws 400 unless it is printable text of 1 to 256 bytes. */
export function checkName(name: unknown): void {
  if (!goodName(name)) throw badRequest("A share's name must be 1 to 256 bytes of printable text.");
}

/** A database that is published in a hub and served to its peers. */
export class Share {
  #rev?: string;
  #published = 0;
  readonly #remotes = new Map<string, Remote>(); // by address
  #relinking?: Promise<void>;
  readonly #welcome = new Set<string>(); // peers that were let in, the last one last
  readonly #over = new AbortController();
  #soon = new AbortController();
  readonly #seen: View; // the database as openers see it
  readonly messages: Messages;
  /** Why it has ended for good, although the page still knows it. */
  why?: CouchError;

  private constructor(private readonly peer: Peer, readonly db: Pouch, readonly id: string, readonly base: string, private readonly turn: string, private readonly nonce: string,
    readonly name: string, private readonly o: ShareOptions, private readonly admission: Admission, readonly topic?: string) {
    this.#seen = new View(db, o);
    this.messages = new Messages(o.requests ?? {}, o.onMessage);
  }

  /** Checks the options and puts a share together. Its id is the same for the same identity, database and topic. */
  static async of(peer: Peer, db: Pouch, o: ShareOptions, shared: (base: string) => boolean, topic?: string): Promise<Share> {
    checkOptions(o, options);
    const name = o.name ?? db.name;
    checkName(name);
    if (!goodInfo(o.info)) throw badRequest("A share's info is limited to 32 KiB.");
    if (o.expires && !(o.expires.getTime() > Date.now())) throw badRequest('A share cannot expire in the past.');
    const database = (topic === undefined ? '' : `pool\0${topic}\0`) + await db.id(), base = await shareID(peer.id, await shareNonce(database));
    if (shared(base)) throw new CouchError(412, 'already_shared', 'This database is shared already.');
    const admission = await Admission.of(db, base, o.allow, !!o.invited);
    const turn = topic === undefined ? await turnOf(db, base, { asked: !!o.onRemote, invited: !!o.invited, allow: [...o.allow ?? []].sort() }) : '';
    const nonce = await shareNonce((turn && `audience\0${turn}\0`) + database), id = await shareID(peer.id, nonce);
    return new Share(peer, db, id, base, turn, nonce, name, o, admission, topic);
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

  get #admissionKind(): AdmissionKind | undefined {
    return this.admission.kind ?? (this.topic === undefined && this.o.onRemote ? 'approval' : undefined);
  }

  /** Writes the share document: a new lease. */
  async publish(): Promise<void> {
    if (this.topic === undefined && await superseded(this.db, this.base, this.turn)) throw takenOver();
    const { doc_count, update_seq } = await this.#seen.info(), until = this.o.expires?.getTime() ?? Infinity;
    for (let attempt = 0; ; attempt++) {
      this.#published = Math.max(Date.now(), this.#published + 1); // readers ignore what is older than they have
      const doc: ShareDoc = {
        _id: sharePrefix + this.id, type: 'share', v: 1, name: this.name, info: this.o.info, db: this.dbName, peer: this.peer.id,
        instance: this.peer.instance, keys: this.peer.identity.keys, nonce: this.nonce, access: this.access, doc_count,
        update_seq: String(update_seq), published: formatTime(this.#published), expires: formatTime(Math.max(Math.min(this.#published + this.peer.lease, until), this.#published)),
        admission: this.#admissionKind, filtered: !!(this.o.filter || this.o.docIds) || undefined,
        until: this.o.expires && formatTime(until),
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
      throw takenOver();
    }
    this.#rev = doc?._rev;
    if (newer) this.#published = published(there);
  }

  /** Keeps the lease until the share ends. */
  async renew(): Promise<void> {
    const { lease } = this.peer, { signal } = this.#over, stopClock = this.#expire();
    const unwatch = this.peer.directory.watch(() => {
      this.#relink();
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
    stopClock();
  }

  /** Ends the share when its time has come. */
  #expire(): () => void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tick = () => {
      const left = (this.o.expires?.getTime() ?? Infinity) - Date.now();
      if (left === Infinity) return;
      if (left > 0) return void (timer = setTimeout(tick, Math.min(left, 0x7fffffff)));
      this.why = forbidden('This share has expired.');
      void this.unshare().catch(() => {}); // its lease is over, too
    };
    tick();
    return () => clearTimeout(timer);
  }

  /** Renews the lease without waiting for its time. */
  renewSoon(): void {
    this.#soon.abort();
  }

  /** Answers one request for the share. */
  async handle(request: Request, link: Link, stream: Stream): Promise<Response> {
    if (this.#over.signal.aborted) return refuse(this.why ?? notFound('No longer shared.'));
    const r = this.#admit(request.headers, link, stream), refused = await r.refused;
    if (refused) return refuse(refused);
    if (r.cut.signal.aborted) return refuse(this.admission.meets(r.info.peer, r.links) ?? notFound('No longer shared.'));
    if (r.running >= (this.o.maxRequests ?? 256)) return errorAnswer(new CouchError(429, 'too_many_requests', 'Too many requests are under way.'));
    r.running++;
    try {
      return await this.messages.answer(request, r.info, link.peer, r.cut.signal) ?? await r.handler(request);
    } finally {
      r.running--;
    }
  }

  /** Lets a peer in, after deciding on it when it comes for the first time. */
  #admit(headers: Headers, link: Link, stream: Stream): Remote {
    let r = this.#remotes.get(link.peer);
    if (!r) {
      const peer = peerOf(link.peer), info: RemoteInfo = { share: this.id, name: this.name, peer, route: link.route };
      const handler = couchHandler(this.db, {
        name: this.dbName, uuid: this.id, readOnly: !!this.o.readOnly, peer, view: this.#seen,
        onWrite: this.o.onWrite && (doc => this.o.onWrite!(doc, info)),
        onRefused: (id, error) => this.#event({ kind: 'write_refused', remote: info, id, error }),
      });
      const made: Remote = r = { info, links: [], streams: new Set(), refused: undefined!, handler, running: 0, cut: new AbortController() };
      this.#remotes.set(link.peer, r);
      r.refused = this.#decide(made, link, headers).then(refused => {
        if (refused) this.#cutRevoked(); // more keys may have turned out to be revoked
        this.#event(refused ? { kind: 'refused', remote: info, error: refused } : { kind: 'opened', remote: info });
        made.opened = !refused;
        if (!refused) this.#letIn(peer);
        return refused;
      });
    }
    r.streams.add(stream);
    return r;
  }

  async #decide(r: Remote, link: Link, headers: Headers): Promise<CouchError | undefined> {
    const { info } = r;
    await link.routed;
    info.route = link.route;
    try {
      info.info = readInfo(headers.get('Loveseat-Info'));
      const before = await readSuccession(headers.get('Loveseat-Succession'), info.peer), own = linksOf(info.peer, before);
      if (before.length) info.predecessors = before;
      r.links = [...own, ...await linksInHub(this.peer.directory, [info.peer, ...before])];
      const { invite, always } = await this.admission.decide(info, r.links, headers.get('Loveseat-Invite'));
      info.invite = invite;
      if (!always) await this.#ask(info);
      await this.admission.remember(own);
      return this.admission.meets(info.peer, r.links); // it may have been revoked in the meantime
    } catch (e: any) {
      return e instanceof CouchError ? e : forbidden(String(e?.message ?? e));
    }
  }

  /** Asks onRemote. Throws its refusal. */
  async #ask(info: RemoteInfo): Promise<void> {
    let reason: string | undefined, always = false;
    const e: RemoteEvent = {
      ...info, defaultPrevented: false,
      preventDefault(why = 'The sharer refuses.') {
        e.defaultPrevented = true;
        reason = why;
      },
      always: () => always = true,
    };
    await this.o.onRemote?.(e);
    if (e.defaultPrevented) throw forbidden(reason!);
    if (always) await this.admission.always(info.peer);
  }

  /** The number that this page's user and a peer's see, if nobody is between them. */
  verificationCode(peer: string): Promise<string> {
    return verificationCode(this.peer.id, peer);
  }

  /** Takes a peer's access away, given by any key that it has had: requests under way are cut off, later ones refused, with whichever key. */
  async revoke(peer: string, reason?: string): Promise<void> {
    const links = [...this.#remotes.values()].flatMap(r => r.info.peer === peer || r.links.some(l => l.from === peer || l.to === peer) ? r.links : []);
    await this.admission.revoke(peer, reason, [...links, ...await linksInHub(this.peer.directory, [peer])]);
    this.#cutRevoked();
  }

  /** Looks soon whether the hub's documents link a peer that has the share open to a key that is revoked. */
  #relink(): void {
    if (!this.#remotes.size) return;
    this.#relinking ??= pause(relinkAfter).then(async () => {
      this.#relinking = undefined;
      for (const r of this.#remotes.values()) {
        const { peer, predecessors = [] } = r.info, links = [...linksOf(peer, predecessors), ...await linksInHub(this.peer.directory, [peer, ...predecessors])];
        r.links = links;
        if (this.admission.meets(peer, links)) await this.admission.remember(links).catch(() => {});
      }
      this.#cutRevoked();
    });
  }

  #cutRevoked(): void {
    this.#cut(r => !!r.opened && !!this.admission.meets(r.info.peer, r.links));
  }

  /** Makes an invite and returns its link, or the secret alone in a hub without a URL. */
  async invite(o: InviteOptions = {}): Promise<Invite & { link: string }> {
    checkOptions(o, { label: 'string', once: 'boolean', expires: 'date' } satisfies Record<keyof InviteOptions, Kind>);
    const { secret, invite } = await this.admission.invite(o), link = this.peer.find(this.id)?.link;
    return { ...invite, link: link ? `${link}#${secret}` : secret };
  }

  get invites(): Invite[] {
    return this.admission.invites;
  }

  /** Ends an invite and cuts off the peers that it let in. */
  async revokeInvite(id: string): Promise<void> {
    await this.admission.revokeInvite(id);
    this.#cut(r => r.info.invite === id);
  }

  /** Sends a value of at most 16 KiB to all who have the share open and listen. It is kept nowhere. */
  broadcast(value: unknown): void {
    this.messages.send(this.peer.id, value);
  }

  #cut(which: (r: Remote) => boolean | undefined): void {
    for (const [address, r] of [...this.#remotes]) {
      if (!which(r)) continue;
      this.#remotes.delete(address);
      r.cut.abort(forbidden('Access to this share was revoked.'));
      for (const s of [...r.streams]) s.reset();
      this.#event({ kind: 'revoked', remote: r.info });
    }
  }

  /** Takes notice that a stream has closed; with its last one a peer has closed the share. */
  leave(link: Link, stream: Stream): void {
    const r = this.#remotes.get(link.peer);
    if (!r?.streams.delete(stream) || r.streams.size) return;
    this.#remotes.delete(link.peer);
    r.cut.abort();
    if (r.opened) this.#event({ kind: 'closed', remote: r.info });
  }

  /** What is known of a peer: 2 the owner has named it, 1 it has been let in before, 0 nothing. */
  knows(peer: string): number {
    return this.admission.names(peer) ? 2 : this.#welcome.has(peer) ? 1 : 0;
  }

  #letIn(peer: string): void {
    this.#welcome.delete(peer);
    this.#welcome.add(peer);
    if (this.#welcome.size > maxWelcome) for (const oldest of this.#welcome) return void this.#welcome.delete(oldest);
  }

  /** The peers that have the share open. */
  get openers(): RemoteInfo[] {
    return [...this.#remotes.values()].filter(r => r.opened).map(r => r.info);
  }

  /** Ends serving: requests under way are cut off. */
  stop(): void {
    this.#over.abort();
    this.#soon.abort();
    for (const r of [...this.#remotes.values()]) {
      r.cut.abort();
      for (const s of [...r.streams]) s.reset();
    }
  }

  /** Ends the share and removes its document from the hub. proof: the page is going away, see Hub.write. */
  async unshare(proof?: string): Promise<void> {
    this.stop();
    for (let attempt = 0; this.#rev; attempt++) {
      const [w] = await this.peer.hub.write([{ _id: sharePrefix + this.id, _rev: this.#rev, _deleted: true }], attempt && proof ? '' : proof);
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
