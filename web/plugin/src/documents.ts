// The documents of the hub database: "share:<id>" and "signal:<time>-<random>". Both are
// signed by their authors over RFC 8785's canonical JSON; a signal's payload is sealed to its recipient.
import { type Bytes, canonicalJSON, fromBase64, hash, randomHex, text, toBase64, utf8 } from './encoding.js';
import { seal } from './hpke.js';
import { type Identity, type Keys, peerID, peerOf } from './identity.js';
import type { Succession } from './succession.js';

/** A document as CouchDB's JSON has it. */
export interface Doc { _id: string; _rev?: string; _deleted?: boolean; [member: string]: unknown }

/** What openers of a share may do. */
export type Access = 'read-write' | 'read';

/** How openers are admitted, other than all of the hub's peers. */
export type Admission = 'listed' | 'approval' | 'invite';

/** The document "share:<id>". */
export interface ShareDoc extends Doc {
  type: 'share'; v: 1; name: string; info?: unknown; db: string; peer: string; instance: string; keys: Keys;
  nonce: string; access: Access; doc_count: number; update_seq: string; published: string; expires: string;
  admission?: Admission; filtered?: boolean; until?: string; succeeds?: Succession[]; signature?: string;
}

/** The document "signal:<time-sortable id>". */
export interface SignalDoc extends Doc {
  type: 'signal'; v: 1; to: string; from: string; keys: Keys; session: string; seq: number; kind: string;
  time: string; expires: string; payload?: string; signature?: string;
}

/** One message between two peers that negotiate a connection. */
export interface Signal { to: string; from: string; session: string; kind: string; payload: Bytes }

export const sharePrefix = 'share:', signalPrefix = 'signal:';

const minute = 60_000;
/** How old a signal may be when it arrives, and by how much its sender's clock may be ahead. */
export const signalAge = 2 * minute;
/** By how much peers' clocks may differ: a share is alive so much longer than it says. */
const clockSkew = minute;
const maxLease = 24 * 60 * minute;
const maxInfo = 32 << 10, maxShareDoc = 64 << 10, maxSignalDoc = 128 << 10, maxPayload = 64 << 10;

/** What is signed: the document without its underscored members and those of `without`, but with its id. */
export function canonical(doc: Doc, ...without: string[]): Bytes {
  const members = Object.entries(doc).filter(([k]) => !k.startsWith('_') && !without.includes(k));
  return utf8('loveseat v1\n' + canonicalJSON({ ...Object.fromEntries(members), _id: doc._id }));
}

/** Adds the signature. */
export async function sign<T extends Doc>(id: Identity, doc: T): Promise<T> {
  return { ...doc, signature: toBase64(await id.sign(canonical(doc, 'signature'))) };
}

/** Throws unless the document is signed by the peer that it says it is from. */
export async function verify(doc: ShareDoc | SignalDoc, peer: string): Promise<void> {
  const raw = fromBase64(doc.keys.sign);
  if (raw.length !== 32 || await peerID(raw) !== peer) throw malformed();
  const key = await crypto.subtle.importKey('raw', raw, 'Ed25519', false, ['verify']);
  if (!await crypto.subtle.verify('Ed25519', key, fromBase64(doc.signature!), canonical(doc, 'signature'))) throw new Error('does not verify');
}

/** Makes the id of a share, which binds it to its peer: 26 letters of base32. */
export const shareID = async (peer: string, nonce: string) => (await hash('loveseat share v1', peer, nonce)).slice(0, 26);
/** The same for the same database, so that a reloaded page keeps its share ids. */
export const shareNonce = async (database: string) => (await hash('loveseat share nonce v1', database)).slice(0, 26);

/** Times are RFC 3339 in UTC with milliseconds. */
export const formatTime = (ms: number): string => new Date(ms).toISOString();

function parseTime(s: string): number {
  const ms = Date.parse(s);
  if (typeof s !== 'string' || Number.isNaN(ms) || formatTime(ms) !== s) throw malformed();
  return ms;
}

/** When the last revision was published, in milliseconds since 1970. */
export const published = (s: ShareDoc): number => Date.parse(s.published);
/** When readers take the share for dead. */
export const gone = (s: ShareDoc): number => Date.parse(s.expires) + clockSkew;
/** The address of the process that serves the share. */
export const addressOf = (s: ShareDoc): string => `${s.peer}.${s.instance}`;

const malformed = () => new Error('malformed document');
const bytes = (s: string): number => utf8(s).length;
const short = (s: unknown, limit: number): boolean => typeof s === 'string' && s !== '' && bytes(s) <= limit;

/** Whether it is printable text of 1 to 256 bytes. */
export const goodName = (name: unknown): boolean => short(name, 256) && !/[\0-\x1f\x7f]/.test(name as string);

/** Whether an info can be published: it has 32 KiB at most. */
export const goodInfo = (info: unknown): boolean => info === undefined || bytes(canonicalJSON(info)) <= maxInfo;

function checkFormat(doc: Doc, type: string, limit: number): void {
  const keys = doc.keys as Keys | undefined;
  if (doc.type !== type || doc.v !== 1 || JSON.stringify(doc).length > limit || typeof keys?.sign !== 'string' || typeof keys.seal !== 'string' || fromBase64(keys.seal).length !== 32 || typeof doc.signature !== 'string') {
    throw malformed();
  }
}

/** Checks and verifies a share document. Throws if it is not to be believed. */
export async function readShare(doc: Doc): Promise<ShareDoc> {
  checkFormat(doc, 'share', maxShareDoc);
  const s = doc as ShareDoc;
  if (!short(s.peer, 64) || !short(s.nonce, 64) || s._id !== sharePrefix + await shareID(s.peer, s.nonce) || !goodName(s.name) || !goodInfo(s.info) ||
    !short(s.db, 256) || !short(s.instance, 64) || typeof s.update_seq !== 'string' || typeof s.doc_count !== 'number' ||
    (s.access !== 'read' && s.access !== 'read-write') || parseTime(s.expires) - parseTime(s.published) > maxLease) {
    throw malformed();
  }
  await verify(s, s.peer);
  return s;
}

/** Seals the payload to the recipient and signs the whole. now is in milliseconds since 1970. */
export async function newSignal(id: Identity, s: Signal, seq: number, sealKey: string, now: number): Promise<SignalDoc> {
  if (s.payload.length > maxPayload) throw new Error('signal payload is too long');
  const header: SignalDoc = {
    _id: signalPrefix + now.toString(16).padStart(12, '0') + '-' + randomHex(8),
    type: 'signal', v: 1, to: s.to, from: s.from, keys: id.keys, session: s.session, seq, kind: s.kind,
    time: formatTime(now), expires: formatTime(now + signalAge),
  };
  // The ciphertext is bound to the header: under another sender's name it does not open.
  const payload = toBase64(await seal(fromBase64(sealKey), canonical(header), s.payload));
  return sign(id, { ...header, payload });
}

/** Verifies a signal document and opens its payload. Throws if it is not to be believed. */
export async function openSignal(id: Identity, doc: Doc, now: number): Promise<{ doc: SignalDoc; signal: Signal }> {
  checkFormat(doc, 'signal', maxSignalDoc);
  const s = doc as SignalDoc;
  if (!short(s.to, 256) || !short(s.from, 256) || !short(s.session, 128) || !short(s.kind, 32) ||
    typeof s.payload !== 'string' || !Number.isSafeInteger(s.seq) || s.seq < 0) {
    throw malformed();
  }
  if (Math.abs(now - parseTime(s.time)) > signalAge) throw new Error('stale signal');
  await verify(s, peerOf(s.from));
  const payload = await id.open(canonical(s, 'payload', 'signature'), fromBase64(s.payload));
  return { doc: s, signal: { to: s.to, from: s.from, session: s.session, kind: s.kind, payload } };
}

/** Reads a JSON payload. */
export const payloadJSON = (payload: Bytes): unknown => JSON.parse(text(payload));
