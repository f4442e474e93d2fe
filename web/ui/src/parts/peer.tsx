// How peers and their connections are told.
import { code } from '../state/format.js';
import { Badge } from './bits.js';

/** A peer by the beginning of its id, which people can compare. */
export function PeerCode({ peer }: { peer: string }) {
  return <code class="code" title={`Peer id ${peer}`}>{code(peer)}</code>;
}

const routes: Record<string, readonly ['good' | 'warn' | 'accent', string, string]> = {
  host: ['good', 'Direct', 'Both are in one network'],
  srflx: ['good', 'Direct', 'Through NAT, without a server between'],
  prflx: ['good', 'Direct', 'Through NAT, without a server between'],
  relay: ['warn', 'Relayed', 'Through a TURN server, end-to-end encrypted'],
  hub: ['warn', 'By the hub', 'Through the hub, end-to-end encrypted'],
};

/** How packets travel, "" if not at all. */
export function RouteBadge({ route, connected = true }: { route: string; connected?: boolean }) {
  if (!connected) return <Badge>Not connected</Badge>;
  const [kind, name, why] = routes[route] ?? ['accent', route || 'Connected', 'How is not known yet'] as const;
  return <Badge kind={kind} title={why}>{name}</Badge>;
}

const admissions: Record<string, string> = { listed: 'Listed peers', approval: 'Asks the sharer', invite: 'By invite' };

/** Whom a share lets in, if not everybody. */
export function AdmissionBadge({ admission }: { admission?: string }) {
  return admission ? <Badge>{admissions[admission] ?? admission}</Badge> : null;
}

export function AccessBadge({ access }: { access: string }) {
  return <Badge title={access === 'read' ? 'You may read and pull' : 'You may read and write'}>{access === 'read' ? 'Read only' : 'Read and write'}</Badge>;
}
