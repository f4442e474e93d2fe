// The connections to peers, measured.
import type { Joined } from './peers.js';

export interface Measured { peer: string; hub: string; route: string; incoming: boolean; since: number; rtt?: number; rate: number; moved: number; shares: string[] }

const before = new Map<string, { at: number; moved: number }>();

/** Measures every connection of a hub: round trips through the data channel, and how fast it moves data. */
export async function measure(hub: Joined): Promise<Measured[]> {
  const links = hub.peer?.transport.links() ?? [];
  return Promise.all(links.map(async l => {
    const peer = l.peer.split('.')[0]!, at = performance.now(), moved = l.session.wire.moved(), last = before.get(l.peer);
    before.set(l.peer, { at, moved });
    const rtt = await Promise.race([l.session.ping().then(() => performance.now() - at), new Promise<undefined>(r => setTimeout(r, 3000))]);
    const shares = hub.shares.value?.filter(s => s.peer === peer).map(s => s.name) ?? [];
    return { peer, hub: hub.name, route: l.route, incoming: l.incoming, since: l.since, rtt, moved, shares, rate: last && at > last.at ? Math.max(0, (moved - last.moved) * 1000 / (at - last.at)) : 0 };
  }));
}

/** Makes the connection to a peer anew: what is under way goes on over the new one. */
export async function reconnect(hub: Joined, peer: string): Promise<void> {
  for (const l of hub.peer?.transport.links() ?? []) if (l.peer.startsWith(peer)) await l.close(new Error('made anew'));
  const share = hub.shares.value?.find(s => s.peer === peer && !s.own);
  if (share) await (await hub.open(share.id)).info();
}
