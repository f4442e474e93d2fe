import { utf8 } from './encoding.js';

const groups = 6; // of five digits

/**
 * The number by which two people make sure, over the telephone say, that each sees the other's peer and nobody's between
 * them: both compute the same from the two peer ids, in whichever order (Go's share/verify.go).
 */
export async function verificationCode(a: string, b: string): Promise<string> {
  const key = await crypto.subtle.importKey('raw', utf8([a, b].sort().join('\n')), 'PBKDF2', false, ['deriveBits']);
  const params = { name: 'PBKDF2', hash: 'SHA-256', salt: utf8('loveseat verification code v1'), iterations: 100_000 };
  const bits = new DataView(await crypto.subtle.deriveBits(params, key, 128));
  const n = (bits.getBigUint64(0) << 64n | bits.getBigUint64(8)) % 10n ** BigInt(5 * groups);
  return String(n).padStart(5 * groups, '0').match(/.{5}/g)!.join(' ');
}
