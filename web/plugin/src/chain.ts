// Which keys are one peer's, as Go's share/chain.go has it: keys that successions link, directly or through others. Whoever
// has one that is revoked is refused, whichever of them it shows; links are kept with the access lists, so that
// it does not help to keep quiet of them the next time. Lists and rules are those of Go.
import type { Directory } from './directory.js';
import type { ShareDoc } from './documents.js';
import { forbidden } from './errors.js';
import { predecessors } from './succession.js';

/** Says that a peer has changed its key. */
export interface KeyLink { from: string; to: string }

const maxChain = 64; // keys that are linked
const maxLoose = 1000; // links between keys of which the lists say nothing else: the oldest go
const maxLinks = 10_000; // in all

/** Why a peer with too many keys is refused. */
export const chainTooLong = forbidden('This peer has changed its keys too often.');

/** Makes links of a peer's verified predecessors, the oldest first. */
export const linksOf = (peer: string, before: string[]): KeyLink[] => before.map((from, i) => ({ from, to: before[i + 1] ?? peer }));

/** Whether an entry of an allowlist, a peer id or its first groups, means a peer. */
export const means = (entry: string, peer: string): boolean => peer === entry || peer.startsWith(entry + '-');

/** Returns all keys that are linked to one, and itself. */
export function chainOf(peer: string, ...lists: KeyLink[][]): Set<string> {
  const kin = new Map<string, string[]>(), add = (a: string, b: string) => kin.set(a, [...kin.get(a) ?? [], b]);
  for (const { from, to } of lists.flat()) {
    add(from, to);
    add(to, from);
  }
  const all = new Set([peer]);
  for (const key of all) for (const next of kin.get(key) ?? []) all.add(next); // a set goes on to what is added to it
  return all;
}

/** Adds links to a list. matters tells of which keys the lists say more. Throws 403 if a chain is too long. */
export function link(list: KeyLink[], more: KeyLink[], matters: (key: string) => boolean): KeyLink[] {
  let out = [...list];
  for (const l of more) {
    if (l.from === l.to || out.some(k => k.from === l.from && k.to === l.to)) continue;
    out.push(l);
    if (chainOf(l.to, out).size > maxChain) throw chainTooLong;
  }
  if (out.length > maxLoose) {
    const kept = new Set(out.flatMap(l => [l.from, l.to]).filter(matters).flatMap(k => [...chainOf(k, out)]));
    let loose = out.filter(l => !kept.has(l.to)).length;
    out = out.filter(l => kept.has(l.to) || loose-- <= maxLoose);
  }
  if (out.length > maxLinks) throw chainTooLong;
  return out;
}

const verified = new WeakMap<ShareDoc, Promise<string[]>>();

/** Returns the successions in the hub's share documents that have to do with peers. */
export async function linksInHub(dir: Directory, peers: string[]): Promise<KeyLink[]> {
  const all = await Promise.all(dir.live().filter(s => s.succeeds?.length).map(async s => {
    if (!verified.has(s)) verified.set(s, predecessors(s.peer, s.succeeds!).catch(() => []));
    const before = await verified.get(s)!;
    return before.some(p => peers.includes(p)) || peers.includes(s.peer) ? linksOf(s.peer, before) : [];
  }));
  return all.flat();
}
