// Whom a share lets in. The lists are kept in the shared database, in "_local/loveseat-access-<share id>",
// so that they outlive the page; the format is that of Go's share/access_state.go.
import { chainOf, chainTooLong, type KeyLink, link, means } from './chain.js';
import { type Bytes, fromBase64, hash, randomHex, toBase64, utf8, sha256 } from './encoding.js';
import { badRequest, CouchError, forbidden, notFound } from './errors.js';
import type { Pouch } from './pouch.js';
import type { RemoteInfo } from './share.js';

/** Names an invite without its secret. */
export interface Invite { id: string; label?: string; made: string; expires?: string; once?: boolean; peer?: string }

/** What an invite is good for. Default: it admits anybody who has it, until it is revoked. */
export interface InviteOptions {
  /** For the owner. */
  label?: string;
  /** Only the first peer that uses it. */
  once?: boolean;
  expires?: Date;
}

interface Kept extends Invite { hash: string }
interface Lists {
  always: Record<string, string>; revoked: Record<string, { at: string; reason?: string }>; invites: Kept[];
  /** Which keys are one peer's. */
  links: KeyLink[];
  /** Whom the owner listed at the last start, and whom no longer. */
  allow: string[]; dropped: Record<string, string>;
}

const maxListed = 10_000, maxInvites = 1000;
const maxGuesses = 10, guessWindow = 60_000, maxTallies = 10_000;

const now = () => new Date().toISOString();
const over = (i: Invite): boolean => !!i.expires && Date.parse(i.expires) <= Date.now();
const inviteHash = (secret: string): Promise<Bytes> => sha256(utf8(secret.trim().toLowerCase()));
const same = (a: Bytes, b: Bytes): boolean => a.length === b.length && a.reduce((d, x, i) => d | (x ^ b[i]!), 0) === 0;

/** Decides by allowlist, invites and revocations. */
export class Admission {
  #lists: Lists = { always: {}, revoked: {}, invites: [], links: [], allow: [], dropped: {} };
  #rev?: string;
  #changing: Promise<unknown> = Promise.resolve();
  readonly #guesses = new Map<string, { n: number; since: number }>(); // by peer

  private constructor(private readonly db: Pouch, private readonly id: string, private readonly allow: string[] | undefined, private readonly invited: boolean) {}

  /** Reads the lists of a share. Throws if a peer of allow is none. */
  static async of(db: Pouch, share: string, allow: string[] | undefined, invited: boolean): Promise<Admission> {
    for (const p of allow ?? []) {
      if (!/^[a-z2-7]{4}(-[a-z2-7]{4}){3,7}$/.test(p)) throw badRequest(`allow: ${p} is no peer id, nor its first four groups (xxxx-xxxx-xxxx-xxxx).`);
    }
    const a = new Admission(db, `_local/loveseat-access-${share}`, allow, invited);
    await a.#load();
    await a.#start(allow ?? []);
    return a;
  }

  async #load(): Promise<void> {
    try {
      this.#take(await this.db.get(this.id));
    } catch (e) {
      if ((e as { status?: number }).status !== 404) throw e; // who was revoked must not come in again
    }
  }

  #take({ _rev, always = {}, revoked = {}, invites = [], links = [], allow = [], dropped = {} }: any): void {
    this.#rev = _rev;
    this.#lists = { always, revoked, invites, links, allow, dropped };
  }

  /** Notes whom the owner lists now, and who is not listed any more. */
  async #start(allow: string[]): Promise<void> {
    if (JSON.stringify(this.#lists.allow) === JSON.stringify(allow)) return;
    await this.#change(l => {
      for (const entry of l.allow) if (!allow.includes(entry)) l.dropped[entry] = now();
      for (const entry of allow) delete l.dropped[entry];
      l.allow = [...allow];
    });
  }

  /** What the share document says of it. */
  get kind(): 'invite' | 'listed' | undefined {
    return this.invited ? 'invite' : this.allow ? 'listed' : undefined;
  }

  /** Changes the lists: what is durable holds, nothing else. */
  #change<T>(fn: (l: Lists) => T): Promise<T> {
    const done = this.#changing.then(() => this.#try(fn));
    this.#changing = done.catch(() => {});
    return done;
  }

  async #try<T>(fn: (l: Lists) => T): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      const lists: Lists = structuredClone(this.#lists), result = fn(lists);
      const listed = Math.max(...[lists.always, lists.revoked, lists.dropped].map(l => Object.keys(l).length));
      if (listed > maxListed || lists.invites.length > maxInvites) throw new CouchError(413, 'too_large', 'The access lists of this share are full.');
      try {
        const { rev } = await this.db.put({ _id: this.id, ...this.#rev && { _rev: this.#rev }, ...lists });
        this.#take({ _rev: rev, ...lists });
        return result;
      } catch (e) {
        if ((e as { status?: number }).status !== 409 || attempt === 3) throw e;
        await this.#load(); // another page has changed them
      }
    }
  }

  /** Why links lead a peer to a revoked key; undefined: they do not. */
  meets(peer: string, links: KeyLink[]): CouchError | undefined {
    const { revoked } = this.#lists, key = [...chainOf(peer, this.#lists.links, links)].find(k => Object.hasOwn(revoked, k));
    if (key === undefined) return undefined;
    const { reason } = revoked[key]!;
    return forbidden(`Access to this share was revoked.${reason ? ' ' + reason : ''}`);
  }

  /** Whether the owner has named a peer, or let it in for good. */
  names(peer: string): boolean {
    return [...chainOf(peer, this.#lists.links)].some(id => Object.hasOwn(this.#lists.always, id) || !!this.allow?.some(entry => means(entry, id)));
  }

  /** Keeps links. Throws 403 if a chain is too long: what cannot be remembered could not be revoked. */
  async remember(links: KeyLink[]): Promise<void> {
    const known = this.#lists.links;
    if (links.some(l => !known.some(k => k.from === l.from && k.to === l.to))) await this.#change(l => this.#link(l, links));
  }

  #link(l: Lists, links: KeyLink[]): void {
    l.links = link(l.links, links, k => Object.hasOwn(l.always, k) || Object.hasOwn(l.revoked, k) || l.invites.some(i => i.peer === k) || l.allow.some(e => means(e, k)));
  }

  /** Whether one of a peer's ids is listed, the present one first, and none of those after it was taken off the list. */
  #listed(ids: string[], among: (id: string) => boolean): boolean {
    for (const id of ids) {
      if (among(id)) return true;
      if (Object.keys(this.#lists.dropped).some(entry => means(entry, id))) return false;
    }
    return false;
  }

  /**
   * Lets a peer in or throws why not. Returns the id of the invite that lets it in, and whether it was admitted for good. links
   * are between its keys, its own and more.
   */
  async decide({ peer, predecessors = [] }: RemoteInfo, links: KeyLink[], secret: string | null): Promise<{ invite?: string; always: boolean }> {
    const ids = [peer, ...[...predecessors].reverse()], gone = this.meets(peer, links);
    if (gone) {
      await this.remember(links).catch(e => {
        if (e !== chainTooLong) throw e;
      });
      throw gone;
    }
    let bad: CouchError | undefined;
    if (secret) {
      try {
        return { invite: await this.#redeem(ids, secret), always: false };
      } catch (e) {
        bad = e as CouchError;
      }
    }
    const always = (id: string) => Object.hasOwn(this.#lists.always, id);
    if (this.#listed(ids, always)) return { always: true };
    if (!this.invited && !this.allow || this.#listed(ids, id => always(id) || !!this.allow?.some(entry => means(entry, id)))) return { always: false };
    throw bad ?? forbidden(this.invited ? 'This share needs an invite.' : 'This share is for peers that its owner has listed.');
  }

  async #redeem(ids: string[], secret: string): Promise<string> {
    const peer = ids[0]!;
    let g = this.#guesses.get(peer);
    if (!g || Date.now() - g.since > guessWindow) g = { n: 0, since: Date.now() };
    if (g.n >= maxGuesses) throw new CouchError(429, 'too_many_requests', 'Too many invites were tried.');
    const hashed = await inviteHash(secret);
    // All are compared, so that how long it takes tells nothing.
    const find = (l: Lists) => l.invites.filter(i => same(fromBase64(i.hash), hashed))[0];
    const anothers = (i: Kept) => i.once && i.peer !== undefined && !ids.includes(i.peer);
    const found = find(this.#lists);
    if (!found || over(found) || anothers(found)) {
      g.n++;
      if (this.#guesses.size >= maxTallies) this.#guesses.clear();
      this.#guesses.set(peer, g);
      throw forbidden('This invite is not valid, or not any more.');
    }
    if (found.peer !== peer) {
      await this.#change(l => {
        const i = find(l);
        if (!i || anothers(i)) throw forbidden('This invite is not valid, or not any more.');
        i.peer = peer;
      });
    }
    return found.id;
  }

  /** Lets a peer in for good: no key of it is revoked any more. */
  always(peer: string): Promise<void> {
    return this.#change(l => {
      for (const key of chainOf(peer, l.links)) delete l.revoked[key];
      l.always[peer] = now();
    });
  }

  /** Keeps a peer out from now on, whichever of its keys it shows. links are what is known of them besides. */
  revoke(peer: string, reason: string | undefined, links: KeyLink[]): Promise<void> {
    return this.#change(l => {
      l.revoked[peer] = { at: now(), ...reason && { reason } };
      try {
        this.#link(l, links);
      } catch { /* of a chain that is too long the peer itself is kept out at any rate */ }
      for (const key of chainOf(peer, l.links)) delete l.always[key];
    });
  }

  /** Makes an invite and returns it with its secret, which cannot be had again. */
  async invite(o: InviteOptions): Promise<{ secret: string; invite: Invite }> {
    const secret = (await hash('loveseat invite v1', crypto.getRandomValues(new Uint8Array(32)))).slice(0, 26);
    const kept: Kept = {
      id: randomHex(4), made: now(), hash: toBase64(await inviteHash(secret)),
      ...o.label && { label: o.label.slice(0, 256) }, ...o.once && { once: true }, ...o.expires && { expires: o.expires.toISOString() },
    };
    await this.#change(l => l.invites = [...l.invites.filter(i => !over(i)), kept]);
    const { hash: _, ...invite } = kept;
    return { secret, invite };
  }

  /** The invites that are good. */
  get invites(): Invite[] {
    return this.#lists.invites.filter(i => !over(i)).map(({ hash: _, ...i }) => i);
  }

  /** Ends an invite. Throws 404. */
  revokeInvite(id: string): Promise<void> {
    return this.#change(l => {
      const left = l.invites.filter(i => i.id !== id);
      if (left.length === l.invites.length) throw notFound(`No invite ${id}.`);
      l.invites = left;
    });
  }
}

/** Reads the header Loveseat-Info: JSON in base64url, at most 4 KiB. Throws 400. */
export function readInfo(text: string | null): unknown {
  if (text === null) return undefined;
  try {
    if (text.length > 5464) throw new Error('too long');
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(fromBase64(text.replaceAll('-', '+').replaceAll('_', '/'))));
  } catch {
    throw badRequest('The header Loveseat-Info is not JSON in base64url of at most 4 KiB.');
  }
}
