/** Bytes are always views of plain memory, which WebCrypto and WebRTC take. */
export type Bytes = Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** UTF-8. */
export const utf8 = (text: string): Bytes => encoder.encode(text);
/** Text of UTF-8; what is malformed becomes U+FFFD. */
export const text = (bytes: Uint8Array): string => decoder.decode(bytes);

/** Joins arrays of bytes. */
export function concat(...parts: Uint8Array[]): Bytes {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

/** Bytes that wait to be taken, joined as they come: many small ones take no more memory than a few large ones. */
export class Pile {
  #buf: Bytes = new Uint8Array();
  #from = 0;
  #to = 0;

  /** What waits. */
  get bytes(): Bytes {
    return this.#buf.subarray(this.#from, this.#to);
  }

  add(chunk: Bytes): void {
    const { bytes } = this, { length } = chunk;
    if (this.#to + length > this.#buf.length) {
      this.#buf = new Uint8Array(bytes.length + Math.max(bytes.length >> 2, length, 256)); // grows by a part of itself: each byte is moved a few times at most
      this.#buf.set(bytes);
      this.#from = 0;
      this.#to = bytes.length;
    }
    this.#buf.set(chunk, this.#to);
    this.#to += length;
  }

  /** Takes n bytes, or all if there are fewer. */
  take(n = Infinity): Bytes {
    const out = this.bytes.subarray(0, n);
    this.#from += out.length;
    if (this.#from === this.#to) this.#buf = new Uint8Array(this.#from = this.#to = 0); // what was taken is its taker's
    return out;
  }
}

/** Base64 with padding (RFC 4648 section 4), as Go writes []byte in JSON. */
export function toBase64(bytes: Uint8Array): string {
  let s = '';
  for (let i = 0; i < bytes.length; i += 0x8000) s += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(s);
}

/** Base64 for URLs, without padding. */
export const url64 = (base64: string) => base64.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

/** Throws on what is not base64. */
export const fromBase64 = (s: string): Bytes => Uint8Array.from(atob(s), c => c.charCodeAt(0));

/** Hexadecimal digits. */
export const toHex = (bytes: Uint8Array): string => Array.from(bytes, b => b.toString(16).padStart(2, '0')).join('');

/** n random bytes as 2n hexadecimal digits. */
export const randomHex = (n: number): string => toHex(crypto.getRandomValues(new Uint8Array(n)));

const alphabet = 'abcdefghijklmnopqrstuvwxyz234567'; // RFC 4648 in lower case

/** Base32 without padding. */
export function toBase32(bytes: Uint8Array): string {
  let out = '', bits = 0, value = 0;
  for (const b of bytes) {
    value = (value << 8) | b;
    for (bits += 8; bits >= 5; bits -= 5) out += alphabet[(value >> (bits - 5)) & 31];
    value &= 31;
  }
  return bits ? out + alphabet[(value << (5 - bits)) & 31] : out;
}

/** JSON in RFC 8785's canonical form: members sorted, no white space. Members that are undefined are left out. */
export function canonicalJSON(v: unknown): string {
  if (Array.isArray(v)) return `[${v.map(canonicalJSON).join(',')}]`;
  if (v === null || typeof v !== 'object') return JSON.stringify(v);
  const o = v as Record<string, unknown>;
  const members = Object.keys(o).filter(k => o[k] !== undefined).sort();
  return `{${members.map(k => `${JSON.stringify(k)}:${canonicalJSON(o[k])}`).join(',')}}`;
}

/** SHA-256. */
export const sha256 = async (bytes: Bytes): Promise<Bytes> => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));

/** The SHA-256 of length-prefixed parts in base32, 52 letters. */
export async function hash(...parts: (string | Uint8Array)[]): Promise<string> {
  const chunks = parts.flatMap(p => {
    const b = typeof p === 'string' ? utf8(p) : p;
    return [utf8(`${b.length}:`), b];
  });
  return toBase32(await sha256(concat(...chunks)));
}
