// The server, for administrators: what it is, what it does, how it is set up.
import { Badge, Facts, Head } from '../parts/bits.js';
import { Busy, Empty, ErrorNote } from '../parts/notes.js';
import { checked, hub, hubFetch } from '../state/api.js';
import { bytes, count, span } from '../state/format.js';
import { useLoaded } from '../state/load.js';
import { to } from '../state/route.js';
import { admin, config, hubs } from '../state/session.js';

interface Welcome { version: string; uuid: string; vendor?: { name?: string; version?: string } }

/** Sums of Prometheus metrics by name: https://prometheus.io/docs/instrumenting/exposition_formats/ */
export function readMetrics(text: string): Map<string, number> {
  const sums = new Map<string, number>();
  for (const m of text.matchAll(/^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)/gm)) {
    const n = Number(m[2]);
    if (Number.isFinite(n)) sums.set(m[1]!, (sums.get(m[1]!) ?? 0) + n);
  }
  return sums;
}

async function load() {
  const [welcome, metrics, ice] = await Promise.all([
    hub<Welcome>('/'), hubFetch('/_metrics').then(checked).then(r => r.text()).then(readMetrics), hub<{ iceServers: RTCIceServer[] }>('/_ice'),
  ]);
  return { welcome, metrics, ice: ice.iceServers };
}

/** The name of a metric for people. */
function titled(metric: string): string {
  const words = metric.replace(/^loveseat_|_total$/g, '').replace(/_bytes$/, '').replaceAll('_', ' ');
  return words[0]!.toUpperCase() + words.slice(1);
}

export function Settings() {
  const loaded = useLoaded(load, []), v = loaded.value;
  if (!admin.value) return <Empty icon="lock" top title="For administrators"><p>Log in as an administrator of the hub to see its settings.</p></Empty>;
  const n = (name: string) => v?.metrics.get(name), start = n('process_start_time_seconds'), memory = n('process_resident_memory_bytes');
  const ours = [...v?.metrics ?? []].flatMap(([k, x]) => /^loveseat_/.test(k) && !/_seconds_|_(created)$/.test(k) ? [[titled(k), k.includes('bytes') ? bytes(x) : count(Math.round(x))] as const] : []).sort();
  const servers = v?.ice.flatMap(s => s.urls) ?? [];
  return <>
    <Head title="Server" sub="What this hub is and does"><button type="button" onClick={loaded.again}>Refresh</button></Head>
    <ErrorNote error={loaded.error} again={loaded.again} />
    {!v ? loaded.busy && <Busy /> : <div class="columns">
      <section class="card stack"><h2>Hub</h2><Facts of={[
        ['Version', `${v.welcome.vendor?.name ?? 'Loveseat'} ${config.value!.release || v.welcome.vendor?.version || ''}`], ['CouchDB API', v.welcome.version], ['Id', <code class="wrap">{v.welcome.uuid}</code>],
        start !== undefined && ['Running for', span(Date.now() - start * 1000)], memory !== undefined && ['Memory', bytes(memory)],
        ['Accounts', config.value!.open ? <Badge kind="warn">None: everybody may do everything</Badge> : config.value!.signUp ? 'Everybody may make one' : 'Made by administrators'],
        ['Hub databases', <>{hubs.value.map(h => <span key={h}><a href={to(['database', h])}>{h}</a> </span>)}</>],
        ['STUN and TURN', servers.length ? <code class="wrap">{servers.join(' ')}</code> : 'None: peers reach each other in one network only'],
      ]} />
        <p class="hint">These are set where the hub is started: by its flags, its environment or its TOML file. <code>hubserver config</code> prints all that is in force.</p></section>
      <section class="card stack"><h2>Since it was started</h2>{ours.length ? <Facts of={ours} /> : <p class="dim">No metrics.</p>}</section>
    </div>}
  </>;
}
