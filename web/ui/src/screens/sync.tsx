// Replications between this browser and elsewhere.
import { useSignal } from '@preact/signals';
import { Badge, Check, Field, Head, Select } from '../parts/bits.js';
import { Icon } from '../parts/icon.js';
import { Empty, ErrorNote } from '../parts/notes.js';
import { bytes, count, span } from '../state/format.js';
import { type Direction, forget, type Job, jobs, replicate } from '../state/jobs.js';
import { useLoaded, useNow } from '../state/load.js';
import { hubOf } from '../state/peers.js';
import { browse, parsePlace, placePath } from '../state/place.js';
import { localNames } from '../state/pouch.js';
import { base, query } from '../state/route.js';
import { admin, hubs } from '../state/session.js';

const states = { running: ['accent', 'Running'], waiting: ['good', 'Up to date, waiting'], done: ['good', 'Done'], cancelled: ['', 'Cancelled'], failed: ['bad', 'Failed'] } as const;
const arrows: Record<Direction, string> = { pull: '←', push: '→', both: '⇄' };
const told: Record<Direction, string> = { pull: 'from', push: 'to', both: 'both ways with' };

function JobCard({ job }: { job: Job }) {
  const p = job.progress.value, state = job.state.value, now = useNow(1000), [kind, name] = states[state], all = p.read + (p.pending ?? 0);
  const known = job.over || p.pending !== undefined || state === 'waiting';
  return <li class="card stack">
    <div class="row"><h2 class="grow"><a href={browse({ kind: 'here', name: job.local })}>{job.local}</a> <span aria-hidden="true">{arrows[job.direction]}</span><span class="hidden">{told[job.direction]}</span> <a href={browse(job.remote)}>{job.name}</a></h2>
      {job.live && <Badge>Live</Badge>}<Badge kind={kind}>{name}</Badge></div>
    <progress aria-label="Progress" max={known ? Math.max(all, 1) : undefined} value={known ? (job.over || state === 'waiting') && !p.pending ? Math.max(all, 1) : p.read : undefined} />
    <dl class="numbers">
      <div><dt>Documents</dt><dd>{count(p.written)}</dd></div><div><dt>Pending</dt><dd>{p.pending === undefined ? '–' : count(p.pending)}</dd></div><div><dt>Data</dt><dd>{bytes(p.bytes)}</dd></div>
      <div><dt>Rate</dt><dd>{count(job.rate.value)}/s</dd></div><div><dt>Refused</dt><dd>{count(p.failures)}</dd></div><div><dt>Time</dt><dd>{span((job.ended ?? now) - job.started)}</dd></div>
    </dl>
    <ErrorNote error={job.error.value} again={state === 'failed' ? () => { forget(job); replicate(job.local, job.remote, job.direction, job.live); } : undefined} />
    <div class="actions">{job.over ? <button type="button" onClick={() => forget(job)}>Remove from the list</button> : <button type="button" class="danger" onClick={() => job.cancel()}>Cancel</button>}</div>
  </li>;
}

function Form() {
  const hub = hubOf(hubs.value[0] ?? 'hub'), names = useLoaded(localNames, []), from = useSignal(query.value.get('from') ?? ''), mine = useSignal<string>(), direction = useSignal<Direction>('pull'), live = useSignal(true);
  const shares = (hub.shares.value ?? []).filter(s => !s.own), places = [...shares.map(s => [`share/${hub.name}/${s.id}`, s.name, s.db] as const)];
  const here = places.find(p => p[0] === from.value), place = parsePlace(from.value.split('/')) ?? parsePlace((places[0]?.[0] ?? '').split('/'));
  const suggestion = (here ?? places[0])?.[2] ?? (place?.kind === 'hub' ? place.name : ''), name = (mine.value ?? suggestion).trim();
  if (!place && hub.shares.value) return <Empty icon="sync" title="There is nothing to replicate with yet"><p>When somebody shares a database, you can keep a copy of it in this browser, two ways and live if you like.</p><a class="button primary" href={base}>See what is shared</a></Empty>;
  return <form class="card stack" onSubmit={e => { e.preventDefault(); if (place && name) { replicate(name, place, direction.value, live.value); mine.value = undefined; } }}>
    <h2>New replication</h2>
    <div class="columns">
      <Select label="Between" value={place ? placePath(place).join('/') : ''} onChange={e => { from.value = e.currentTarget.value; mine.value = undefined; }}>
        {place?.kind === 'hub' && <option value={placePath(place).join('/')}>{place.name} on the hub</option>}
        {place?.kind === 'share' && !places.some(p => p[0] === placePath(place).join('/')) && <option value={placePath(place).join('/')}>A share</option>}
        {places.map(([v, n]) => <option key={v} value={v}>{n}</option>)}
      </Select>
      <div><Field label="and, in this browser" required list="here" maxLength={64} hint="It is made if it does not exist" value={mine.value ?? suggestion} onInput={e => mine.value = e.currentTarget.value} />
        <datalist id="here">{names.value?.map(n => <option key={n} value={n} />)}</datalist></div>
      <Select label="Direction" value={direction.value} onChange={e => direction.value = e.currentTarget.value as Direction}>
        <option value="pull">To this browser</option><option value="push">From this browser</option><option value="both">Both ways</option></Select>
    </div>
    <Check label="Live" hint="Go on with later changes while this tab is open" checked={live.value} onChange={e => live.value = e.currentTarget.checked} />
    <div class="actions"><button class="primary" disabled={!place || !name}><Icon name="sync" />Start</button>{admin.value && <span class="hint">To replicate a hub database, begin at its documents.</span>}</div>
  </form>;
}

export function Sync() {
  return <>
    <Head title="Replication" sub="Copies in this browser, which work offline" />
    {jobs.value.length > 0 && <ul class="stack" aria-label="Replications">{jobs.value.map(j => <JobCard key={j.id} job={j} />)}</ul>}
    <Form />
  </>;
}
