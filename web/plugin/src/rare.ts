// What a page that opens shares seldom needs, and loads then: new device keys, hubs without PouchDB, and shares that are not
// found by their ids.
import type { ShareDoc } from './documents.js';
import { toBase64, utf8 } from './encoding.js';
import { badRequest } from './errors.js';
import type { HubFetch } from './hub.js';
import type { StoredKeys } from './identity.js';
import { checkOptions, type Kind } from './options.js';
import type { JoinOptions } from './peer.js';
import { successor } from './succession.js';

/** Makes new device keys, whose private halves cannot be exported. */
export async function generate(): Promise<StoredKeys> {
  if (!globalThis.crypto?.subtle) {
    throw new Error('Loveseat needs WebCrypto, which browsers give to pages from https: and localhost only.');
  }
  const [sign, seal] = await Promise.all([
    crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify']),
    crypto.subtle.generateKey('X25519', false, ['deriveBits']),
  ]);
  return { sign: sign as CryptoKeyPair, seal: seal as CryptoKeyPair };
}

/** Checks how a hub is joined. Throws 400. */
export function checkJoin(o: JoinOptions): void {
  checkOptions(o, {
    hub: 'string', fetch: 'function', identity: 'any', lease: 'number', iceServers: 'any', relay: 'string', relayOnly: 'boolean', timeout: 'number', maxPeers: 'number',
    onPeer: 'function', info: 'any', RTCPeerConnection: 'any',
  } satisfies Record<keyof JoinOptions, Kind>);
  if (!/^(auto|hub|off)$/.test(o.relay ?? 'auto')) throw badRequest('The option relay is auto, hub or off.');
}

/** fetch below a hub database, whose URL without credentials is base: with those of url or, without, the browser's cookies. */
export function hubFetch(url: string, base: string): HubFetch {
  const { username, password } = new URL(url, base);
  const auth = username && 'Basic ' + toBase64(utf8(decodeURIComponent(`${username}:${password}`)));
  return (path, init = {}) => {
    const headers = new Headers(init.headers);
    if (auth) headers.set('Authorization', auth);
    return fetch(path ? `${base}/${path}` : base, { ...init, headers, credentials: 'include' });
  };
}

/** Finds the share in whose place the one with an id was, before its peer changed its keys, or else the only one with a name; or says what CouchError there is. */
export async function lookUp(live: ShareDoc[], name: string, id?: string): Promise<ShareDoc | [number, string, string]> {
  const next = id && await successor(live, id);
  if (next) return next;
  const [found, another] = live.filter(s => s.name === name);
  if (another) return [409, 'ambiguous_name', `Several shares are named ${name}; open one by its id.`];
  return found ?? [404, 'not_found', `No live share ${id ?? `is named ${name}`}.`];
}
