// HPKE (RFC 9180), base mode, one message: DHKEM(X25519, HKDF-SHA256),
// HKDF-SHA256, AES-128-GCM. What is sealed is the encapsulated key (32 bytes) and the ciphertext.
import { type Bytes, concat, utf8 } from './encoding.js';

const kem = suite('KEM', 0x20);
const hpke = suite('HPKE', 0x20, 0x01, 0x01);
const empty: Bytes = new Uint8Array();

function suite(name: string, ...ids: number[]): Bytes {
  return concat(utf8(name), new Uint8Array(ids.flatMap(id => [id >> 8, id & 255])));
}

/** HMAC-SHA256. */
export async function hmac(key: Bytes, data: Bytes): Promise<Bytes> {
  const raw = key.length ? key : new Uint8Array(32); // HMAC pads with zeros, WebCrypto refuses an empty key
  const k = await crypto.subtle.importKey('raw', raw, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', k, data));
}

const extract = (id: Bytes, salt: Bytes, label: string, ikm: Bytes) =>
  hmac(salt, concat(utf8('HPKE-v1'), id, utf8(label), ikm));

/** Expands to at most 32 bytes, all that this suite needs. */
async function expand(id: Bytes, prk: Bytes, label: string, info: Bytes, length: number): Promise<Bytes> {
  const labeled = concat(new Uint8Array([0, length]), utf8('HPKE-v1'), id, utf8(label), info, new Uint8Array([1]));
  return (await hmac(prk, labeled)).slice(0, length);
}

/** X25519. */
export async function dh(priv: CryptoKey, pub: Bytes): Promise<Bytes> {
  const key = await crypto.subtle.importKey('raw', pub, 'X25519', true, []);
  return new Uint8Array(await crypto.subtle.deriveBits({ name: 'X25519', public: key }, priv, 256));
}

async function aead(shared: Bytes, context: Bytes, info: Bytes) {
  const secret = await expand(kem, await extract(kem, empty, 'eae_prk', shared), 'shared_secret', context, 32);
  const schedule = concat(
    new Uint8Array([0]), await extract(hpke, empty, 'psk_id_hash', empty), await extract(hpke, empty, 'info_hash', info));
  const prk = await extract(hpke, secret, 'secret', empty);
  const key = await expand(hpke, prk, 'key', schedule, 16);
  const iv = await expand(hpke, prk, 'base_nonce', schedule, 12);
  return { key: await crypto.subtle.importKey('raw', key, 'AES-GCM', false, ['encrypt', 'decrypt']), params: { name: 'AES-GCM', iv } };
}

/** Encrypts for the owner of an X25519 key; info must be the same at open. ephemeral is for tests. */
export async function seal(to: Bytes, info: Bytes, plaintext: Bytes, ephemeral?: CryptoKeyPair): Promise<Bytes> {
  const pair = ephemeral ?? await crypto.subtle.generateKey('X25519', false, ['deriveBits']) as CryptoKeyPair;
  const enc = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  const { key, params } = await aead(await dh(pair.privateKey, to), concat(enc, to), info);
  return concat(enc, new Uint8Array(await crypto.subtle.encrypt(params, key, plaintext)));
}

/** Decrypts what was sealed to pub, whose private key priv is. Throws if it was not. */
export async function open(priv: CryptoKey, pub: Bytes, info: Bytes, sealed: Bytes): Promise<Bytes> {
  const enc = sealed.slice(0, 32);
  const { key, params } = await aead(await dh(priv, enc), concat(enc, pub), info);
  return new Uint8Array(await crypto.subtle.decrypt(params, key, sealed.slice(32)));
}
