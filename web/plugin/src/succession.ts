// Peers that change their keys: the old key signs a statement of who the peer is from now on (Go's internal/hubdoc/succession.go).
import { type ShareDoc, shareID } from './documents.js';
import { fromBase64, text, utf8 } from './encoding.js';
import { peerID } from './identity.js';

/** A peer's statement that another peer id is its own from now on. */
export interface Succession {
  /** The old public signing key, Ed25519, in base64. */
  from: string;
  /** The new peer id. */
  to: string;
  time: string;
  /** Of the label, to, "\n" and time. */
  signature: string;
}

const label = 'loveseat succession v1\n';
const maxChain = 8, maxHeader = 8 << 10;

/** Returns the peer ids that a peer had before, the oldest first. Throws if one statement does not hold: that makes all worthless. */
export async function predecessors(peer: string, chain: Succession[]): Promise<string[]> {
  if (chain.length > maxChain) throw new Error('too many successions');
  const peers: string[] = [];
  for (const s of [...chain].reverse()) {
    const raw = fromBase64(s.from), key = await crypto.subtle.importKey('raw', raw, 'Ed25519', false, ['verify']);
    if (s.to !== peer || !await crypto.subtle.verify('Ed25519', key, fromBase64(s.signature), utf8(`${label}${s.to}\n${s.time}`))) {
      throw new Error('succession does not verify');
    }
    peers.unshift(peer = await peerID(raw));
  }
  return peers;
}

/** Reads the header Loveseat-Succession, JSON in base64url, of the peer that makes a request. What does not verify counts as nothing. */
export async function readSuccession(header: string | null, peer: string): Promise<string[]> {
  if (!header || header.length > maxHeader) return [];
  try {
    return await predecessors(peer, JSON.parse(text(fromBase64(header.replaceAll('-', '+').replaceAll('_', '/')))));
  } catch {
    return [];
  }
}

/** Finds the share that a peer, having changed its keys, has in the place of the one with an id. Both ids are of the same database. */
export async function successor(live: ShareDoc[], id: string): Promise<ShareDoc | undefined> {
  for (const s of live) {
    for (const peer of s.succeeds ? await predecessors(s.peer, s.succeeds).catch(() => []) : []) {
      if (await shareID(peer, s.nonce) === id) return s;
    }
  }
  return undefined;
}
