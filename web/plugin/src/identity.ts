import { type Bytes, fromBase64, hash, toBase64 } from './encoding.js';
import { dh, open } from './hpke.js';

/** A peer's public keys in base64: Ed25519 for signatures, X25519 to seal to. */
export interface Keys { sign: string; seal: string }

/** What is kept of an identity: private keys that cannot be exported. */
export interface StoredKeys { sign: CryptoKeyPair; seal: CryptoKeyPair }

/** A peer's device key: it signs what the peer publishes, and signals are sealed to it. */
export class Identity {
  private constructor(readonly id: string, readonly keys: Keys, private readonly own: StoredKeys) {}

  /** Makes an identity of its keys. */
  static async of(own: StoredKeys): Promise<Identity> {
    const raw = async (k: CryptoKey) => new Uint8Array(await crypto.subtle.exportKey('raw', k));
    const sign = await raw(own.sign.publicKey);
    const keys = { sign: toBase64(sign), seal: toBase64(await raw(own.seal.publicKey)) };
    return new Identity(await peerID(sign), keys, own);
  }

  /** Makes a new identity that lives in memory only. */
  static create = async (): Promise<Identity> => Identity.of(await generate());

  /** Signs with Ed25519 (RFC 8032). */
  async sign(message: Bytes): Promise<Bytes> {
    return new Uint8Array(await crypto.subtle.sign('Ed25519', this.own.sign.privateKey, message));
  }

  /** X25519 of this identity's key and another one. */
  agree(pub: Bytes): Promise<Bytes> {
    return dh(this.own.seal.privateKey, pub);
  }

  /** Opens what was sealed to this identity's X25519 key. */
  open(info: Bytes, sealed: Bytes): Promise<Bytes> {
    return open(this.own.seal.privateKey, fromBase64(this.keys.seal), info, sealed);
  }
}

const generate = async (): Promise<StoredKeys> => (await import('./rare.js')).generate();

/** The id of the peer with a public signing key: "k7qm-x2vd-…", 8 groups of 4 letters. */
export async function peerID(sign: Uint8Array): Promise<string> {
  const code = (await hash('loveseat peer v1', sign)).slice(0, 32);
  return code.match(/.{4}/g)!.join('-');
}

/** The peer id of an address, which is "<peer id>.<instance>". */
export const peerOf = (address: string): string => address.split('.', 1)[0]!;

const request = <T>(r: IDBRequest<T>): Promise<T> => new Promise((resolve, reject) => {
  r.onsuccess = () => resolve(r.result);
  r.onerror = () => reject(r.error);
});

async function database(): Promise<IDBDatabase> {
  const r = indexedDB.open('loveseat', 1);
  r.onupgradeneeded = () => r.result.createObjectStore('keys');
  return request(r);
}

/**
 * The identity of this browser for this origin, made on first use: its private keys
 * are in IndexedDB and cannot be exported. Where that does not work (private windows) it lives in memory.
 */
export async function loadIdentity(name = 'device'): Promise<Identity> {
  const db = globalThis.indexedDB && await database().catch(() => undefined);
  if (!db) return Identity.create();
  try {
    const keys = (mode: IDBTransactionMode) => db.transaction('keys', mode).objectStore('keys');
    const known = await request<StoredKeys | undefined>(keys('readonly').get(name));
    if (known) return await Identity.of(known);
    const made = await generate();
    // add fails when another tab was quicker, whose keys count then
    await request(keys('readwrite').add(made, name)).catch(() => {});
    return await Identity.of(await request<StoredKeys>(keys('readonly').get(name)));
  } finally {
    db.close();
  }
}
