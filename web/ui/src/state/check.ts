// Checks what peers need: the hub, the log-in, the changes feed, the clock, a network path.
import { checked, hub, hubFetch } from './api.js';
import { measure } from './links.js';
import { happened, hubOf, type Joined } from './peers.js';
import { onHub } from './place.js';
import { config, user } from './session.js';

export type Grade = 'good' | 'warn' | 'bad';
export interface Result { grade: Grade; told: string; help?: string }
export interface Check { name: string; run(hub: string): Promise<Result> }

const good = (told: string): Result => ({ grade: 'good', told });

async function timed<T>(fn: () => Promise<T>): Promise<[T, number]> {
  const start = performance.now(), v = await fn();
  return [v, Math.round(performance.now() - start)];
}

/** ICE candidates by kind that are found with the given servers, within a few seconds. */
export async function candidates(iceServers: RTCIceServer[], ms = 5000): Promise<Record<string, number>> {
  const pc = new RTCPeerConnection({ iceServers }), found: Record<string, number> = {};
  try {
    pc.createDataChannel('check');
    const gathered = new Promise<void>(done => {
      pc.onicecandidate = e => {
        if (e.candidate?.type) found[e.candidate.type] = (found[e.candidate.type] ?? 0) + 1;
        if (!e.candidate) done();
      };
    });
    await pc.setLocalDescription(await pc.createOffer());
    await Promise.race([gathered, new Promise(r => setTimeout(r, ms))]);
    return found;
  } finally {
    pc.close();
  }
}

const iceServers = async () => (await hub<{ iceServers: RTCIceServer[] }>('/_ice')).iceServers;
const isTURN = (s: RTCIceServer) => [s.urls].flat().some(u => /^turns?:/.test(u));

export const checks: Check[] = [
  {
    name: 'Secure page',
    async run() {
      if (!globalThis.isSecureContext) return { grade: 'bad', told: 'This page came over plain HTTP, where browsers give no keys to pages.', help: 'Open it over https: (hubserver --tls-cert and --tls-key, or a reverse proxy) or as http://localhost.' };
      const ok = await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify']).then(() => true, () => false);
      return ok ? good('The page can keep keys, and this browser has the algorithms.') : { grade: 'bad', told: 'This browser lacks Ed25519.', help: 'Use Chromium 137, Firefox 130, Safari 17 or later.' };
    },
  },
  {
    name: 'Hub reachable',
    async run() {
      const [, ms] = await timed(async () => checked(await hubFetch('/_up')));
      return ms > 1000 ? { grade: 'warn', told: `It took ${ms} ms to answer.`, help: 'Connections to peers are made as slowly. Is the network busy, or the hub?' } : good(`It answers in ${ms} ms.`);
    },
  },
  {
    name: 'Log-in',
    async run(name) {
      await onHub(name).info();
      return good(config.value!.open ? 'The hub has no accounts: everybody may do everything.' : user.value!.name ? `You are ${user.value!.name}, and may use ${name}.` : `${name} may be used without logging in.`);
    },
  },
  {
    name: 'Changes feed',
    async run(name) {
      const db = onHub(name), { update_seq } = await db.info(), over = AbortSignal.timeout(10_000);
      const [, ms] = await timed(async () => checked(await hubFetch(`${db.url}/_changes?feed=longpoll&timeout=250&since=${encodeURIComponent(String(update_seq))}`, { signal: over })));
      const late = ms - 250;
      return late > 2000 ? { grade: 'warn', told: `An answer that was due after 250 ms came ${late} ms late.`, help: 'A proxy in between may hold answers back: it must not buffer them (nginx: proxy_buffering off).' } : good('It waits for changes, and answers when it is due.');
    },
  },
  {
    name: 'Clock',
    async run() {
      const before = Date.now(), date = (await hubFetch('/_up', { cache: 'no-store' })).headers.get('date'), after = Date.now();
      if (!date) return { grade: 'warn', told: 'The hub does not tell its time.' };
      const off = Math.round((Date.parse(date) + 500 - (before + after) / 2) / 1000);
      return Math.abs(off) > 30 ? { grade: Math.abs(off) > 100 ? 'bad' : 'warn', told: `This machine's clock and the hub's differ by ${Math.abs(off)} s.`, help: 'Signals older than two minutes are not believed: set both clocks by the network (NTP).' } : good(`It agrees with the hub's${off ? ` within ${Math.abs(off) + 1} s` : ''}.`);
    },
  },
  {
    name: 'Network paths',
    async run() {
      const servers = await iceServers().catch(() => []), found = await candidates(servers), kinds = Object.entries(found).map(([k, n]) => `${n} ${k}`).join(', ');
      if (!kinds) return { grade: 'bad', told: 'No candidates were found: this browser does not let pages use WebRTC.', help: 'An extension or a policy may forbid it.' };
      if (servers.length && !found.srflx && !found.relay) return { grade: 'warn', told: `Only paths in this network were found (${kinds}).`, help: 'STUN servers cannot be reached: a firewall may block UDP.' };
      return good(`${kinds}.${servers.length ? '' : ' The hub names no STUN or TURN server, which peers in one network do not need.'}`);
    },
  },
  {
    name: 'TURN',
    async run() {
      const servers = (await iceServers().catch(() => [])).filter(isTURN);
      if (!servers.length) return { grade: 'warn', told: 'The hub offers no TURN server.', help: 'Peers behind strict NATs or firewalls may not reach each other. Start the hub with --turn-udp and --turn-ip.' };
      return (await candidates(servers)).relay ? good('It relays where there is no direct path.') : { grade: 'bad', told: 'The TURN server cannot be reached, or refuses.', help: 'Its UDP port and the range of its relays must be open (--turn-udp, --turn-ports).' };
    },
  },
];

/** What helps to find out why something does not work: no secrets, no documents. */
export async function diagnose(joined: Joined[], release: string): Promise<string> {
  const results = await Promise.all(checks.map(async c => ({ check: c.name, ...await c.run(joined[0]?.name ?? 'hub').catch(e => ({ grade: 'bad', told: String(e.message ?? e) })) })));
  return JSON.stringify({
    time: new Date(), page: location.origin, release, browser: navigator.userAgent, checks: results, links: (await Promise.all(joined.map(measure))).flat(),
    shares: joined.map(h => ({ hub: h.name, peer: h.peer?.id, shares: hubOf(h.name).shares.value?.length, error: h.error.value && String((h.error.value as Error).message) })), happened: happened.value,
  }, null, 2);
}
