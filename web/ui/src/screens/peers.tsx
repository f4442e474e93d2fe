// Who is connected to this page, how, and how well.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { Badge, Copy, Facts, Head } from '../parts/bits.js';
import { Empty, ErrorNote } from '../parts/notes.js';
import { PeerCode, RouteBadge } from '../parts/peer.js';
import { diagnose } from '../state/check.js';
import { bytes, span } from '../state/format.js';
import { type Measured, measure, reconnect } from '../state/links.js';
import { useAction, useNow } from '../state/load.js';
import { happened, hubOf, type Joined } from '../state/peers.js';
import { base } from '../state/route.js';
import { config, hubs } from '../state/session.js';
import { verificationOf } from '../state/verification.js';

function Connection({ m, hub }: { m: Measured; hub: Joined }) {
  const action = useAction(), now = useNow(1000);
  return <li class="card stack">
    <div class="row"><h2 class="grow wide"><PeerCode peer={m.peer} /> {m.shares.length > 0 && <span class="dim">{m.shares.slice(0, 2).join(', ')}{m.shares.length > 2 && ` and ${m.shares.length - 2} more`}</span>}</h2><Badge>{m.incoming ? 'Opened by them' : 'Opened here'}</Badge><RouteBadge route={m.route} /></div>
    <dl class="numbers"><div><dt>Round trip</dt><dd>{m.rtt === undefined ? '–' : `${m.rtt < 10 ? m.rtt.toFixed(1) : Math.round(m.rtt)} ms`}</dd></div><div><dt>Throughput</dt><dd>{bytes(m.rate)}/s</dd></div><div><dt>Moved</dt><dd>{bytes(m.moved)}</dd></div><div><dt>Connected for</dt><dd>{span(now - m.since)}</dd></div></dl>
    <Facts of={[['Peer id', <code class="wrap">{m.peer}</code>], ['Verification', <code class="wrap">{verificationOf(hub.peer?.id, m.peer) ?? '…'}</code>]]} />
    <ErrorNote error={action.error.value} />
    <div class="actions"><button type="button" disabled={action.busy.value} onClick={() => action.run(() => reconnect(hub, m.peer))}>Reconnect</button></div>
  </li>;
}

export function Peers() {
  const joined = hubs.value.map(hubOf), links = useSignal<Measured[]>(), turns = joined.reduce((n, h) => n + h.turns.value, 0), now = useNow();
  useEffect(() => {
    let over = false;
    const look = async () => {
      const all = (await Promise.all(joined.map(measure))).flat();
      if (!over) links.value = all;
    };
    void look();
    const timer = setInterval(look, 2000);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, [turns, joined.map(h => h.name).join()]);
  const me = joined.find(h => h.peer)?.peer?.id ?? joined.map(h => h.shares.value && h.peer?.id).find(Boolean);
  return <>
    <Head title="Peers" sub="Connections between this page and others, end-to-end encrypted"><Copy name="Copy diagnostics" text={() => diagnose(joined, config.value?.release ?? '')} /></Head>
    {joined.map(h => <ErrorNote key={h.name} error={h.error.value} again={() => h.join()} />)}
    <section class="card stack" aria-labelledby="me"><h2 id="me">This browser</h2>
      <Facts of={[['Code', me ? <PeerCode peer={me} /> : '…'], ['Peer id', me && <code class="wrap">{me}</code>]]} />
      <p class="hint">Others see this code beside what you share. It is of a key that never leaves this browser.</p></section>
    {links.value && (links.value.length ? <ul class="stack" aria-label="Connections">{links.value.map(m => <Connection key={m.peer + m.incoming} m={m} hub={hubOf(m.hub)} />)}</ul>
      : <Empty icon="peers" title="No connections now"><p>A connection is made when you open a share, or somebody opens yours.</p><a class="button" href={base}>See what is shared</a></Empty>)}
    {happened.value.length > 0 && <section class="stack" aria-labelledby="log"><h2 id="log">What happened</h2><div class="table" tabIndex={0} role="region" aria-label="Events"><table>
      <thead><tr><th scope="col">When</th><th scope="col">Peer</th><th scope="col">What</th></tr></thead>
      <tbody>{happened.value.slice(0, 12).map(h => <tr key={`${h.at} ${h.peer} ${h.state}`}><td class="nowrap">{span(now - h.at)} ago</td><td><PeerCode peer={h.peer} /></td><td>{h.state === 'connected' ? 'Connected' : 'Closed'}{h.error && <span class="dim"> · {h.error}</span>}</td></tr>)}</tbody>
    </table></div></section>}
  </>;
}
