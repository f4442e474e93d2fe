// Noise_KK_25519_AESGCM_SHA256 (noiseprotocol.org, revision 34) on the peers' sealing keys, for what goes through a
// hub's relay. What the messages are is described in Go's peeradapter/noise.go.
import { type Bytes, concat, sha256, utf8 } from './encoding.js';
import { dh, hmac } from './hpke.js';

const empty: Bytes = new Uint8Array();
const tagLength = 16, keyLength = 32;

/** The most plaintext that a message carries. */
export const maxPlaintext = 65_535 - tagLength;

/** One direction of a connection. Nonces count from 0. */
export class CipherState {
  #n = 0;

  constructor(private readonly key: CryptoKey) {}

  static async of(key: Bytes): Promise<CipherState> {
    return new CipherState(await crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt', 'decrypt']));
  }

  #params(additionalData: Bytes): AesGcmParams {
    const iv = new Uint8Array(12);
    new DataView(iv.buffer).setBigUint64(4, BigInt(this.#n++));
    return { name: 'AES-GCM', iv, additionalData };
  }

  async encrypt(plaintext: Bytes, ad = empty): Promise<Bytes> {
    return new Uint8Array(await crypto.subtle.encrypt(this.#params(ad), this.key, plaintext));
  }

  /** Throws on what is not the other's next message. */
  async decrypt(message: Bytes, ad = empty): Promise<Bytes> {
    return new Uint8Array(await crypto.subtle.decrypt(this.#params(ad), this.key, message));
  }
}

/** HKDF with two outputs. */
async function hkdf(ck: Bytes, ikm: Bytes): Promise<[Bytes, Bytes]> {
  const temp = await hmac(ck, ikm), first = await hmac(temp, new Uint8Array([1]));
  return [first, await hmac(temp, concat(first, new Uint8Array([2])))];
}

/** What a side brings to the handshake. */
export interface Party {
  initiator: boolean;
  prologue: Bytes;
  /** This side's static public key, and Diffie-Hellman with its private one. */
  own: Bytes;
  agree: (pub: Bytes) => Promise<Bytes>;
  /** The other's static public key. */
  other: Bytes;
  /** For tests. */
  ephemeral?: CryptoKeyPair;
}

/** Shakes hands over a channel of messages and returns how to send and to receive. Throws if the other is another. */
export async function handshake(p: Party, send: (m: Bytes) => void, receive: () => Promise<Bytes>): Promise<{ send: CipherState; receive: CipherState }> {
  let h: Bytes = concat(utf8('Noise_KK_25519_AESGCM_SHA256'), new Uint8Array(4)), ck = h, k: CipherState;
  const mix = async (data: Bytes) => h = await sha256(concat(h, data));
  const mixKey = async (secret: Bytes) => {
    const [next, key] = await hkdf(ck, secret);
    ck = next;
    k = await CipherState.of(key);
  };
  await mix(p.prologue);
  await mix(p.initiator ? p.own : p.other);
  await mix(p.initiator ? p.other : p.own);

  const mine = p.ephemeral ?? await crypto.subtle.generateKey('X25519', false, ['deriveBits']) as CryptoKeyPair;
  const e = new Uint8Array(await crypto.subtle.exportKey('raw', mine.publicKey));
  let theirs: Bytes = empty;
  const write = async (...secrets: (() => Promise<Bytes>)[]) => {
    await mix(e);
    for (const s of secrets) await mixKey(await s());
    const tag = await k!.encrypt(empty, h);
    await mix(tag);
    send(concat(e, tag));
  };
  const read = async (...secrets: (() => Promise<Bytes>)[]) => {
    const m = await receive();
    if (m.length !== keyLength + tagLength) throw new Error('malformed handshake');
    theirs = m.slice(0, keyLength);
    await mix(theirs);
    for (const s of secrets) await mixKey(await s());
    await k!.decrypt(m.slice(keyLength), h);
    await mix(m.slice(keyLength));
  };
  const ss = () => p.agree(p.other), ee = () => dh(mine.privateKey, theirs);
  const withOwn = () => p.agree(theirs), withEphemeral = () => dh(mine.privateKey, p.other);
  if (p.initiator) {
    await write(withEphemeral, ss); // e, es, ss
    await read(ee, withOwn); // e, ee, se
  } else {
    await read(withOwn, ss);
    await write(ee, withEphemeral);
  }
  const [first, second] = await Promise.all((await hkdf(ck, empty)).map(key => CipherState.of(key)));
  return p.initiator ? { send: first!, receive: second! } : { send: second!, receive: first! };
}
