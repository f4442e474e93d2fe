// Shares a database of this browser.
import { useSignal } from '@preact/signals';
import { AccessBadge, PeerCode, RouteBadge } from '../parts/peer.js';
import { Badge, Check, Copy, Field, Head, Select, Sure } from '../parts/bits.js';
import { Drop } from '../parts/drop.js';
import { Icon } from '../parts/icon.js';
import { ErrorNote, Note } from '../parts/notes.js';
import { many } from '../state/format.js';
import { importFiles } from '../state/importing.js';
import { useAction, useLoaded } from '../state/load.js';
import { browse } from '../state/place.js';
import { local, localNames, turn } from '../state/pouch.js';
import { query, to } from '../state/route.js';
import { hubs } from '../state/session.js';
import { type Admit, revoke, share, shared, type Shared, unshare } from '../state/sharing.js';

const making = '\0new';
const admits: Record<Admit, string> = { all: 'Everybody on the hub', invite: 'Who has the link', ask: 'Asks you' };

function Running({ s }: { s: Shared }) {
  const action = useAction();
  return <li class="card stack">
    <div class="row"><span class="grow wide"><strong>{s.name}</strong>{s.name !== s.db && <span class="dim"> from {s.db}</span>}</span><Badge>{admits[s.admit]}</Badge><AccessBadge access={s.access} /><Badge kind={s.error ? 'warn' : 'good'}>{s.error ? 'Trying again' : 'Shared'}</Badge></div>
    {s.error && <ErrorNote error={new Error(s.error)} />}
    {s.openers.length > 0 && <ul class="stack" aria-label="Open at">{s.openers.map(o => <li class="row" key={o.peer}><span>Open at <PeerCode peer={o.peer} /></span><RouteBadge route={o.route} />
      <Sure ask="Cut them off, for good?" onSure={() => action.run(() => revoke(s, o.peer))}>Revoke</Sure></li>)}</ul>}
    <p class="dim">{!s.openers.length && 'Nobody has it open now. '}{s.refused > 0 && `${many(s.refused, 'peer')} refused. `}{s.until && `It ends at ${s.until.toLocaleString()}.`}</p>
    <div class="actions"><a class="button" href={to(['shares', s.hub, s.id])}>Link and QR code</a><Copy name="Copy the link" text={s.link} />
      <a class="button" href={browse({ kind: 'here', name: s.db })}>Documents</a><button type="button" class="danger" disabled={action.busy.value} onClick={() => action.run(() => unshare(s))}>Stop sharing</button></div>
    <ErrorNote error={action.error.value} />
  </li>;
}

/** Fills a database with files. */
function Fill({ name }: { name: string }) {
  const action = useAction(), done = useSignal<{ written: number; refused: string[] }>(), n = useSignal(0);
  const add = (files: File[]) => action.run(async () => {
    done.value = await importFiles(await local(name), files, x => n.value = x);
    turn.value++;
  });
  return <>
    <Drop onFiles={add} disabled={!name || action.busy.value}>{!name ? 'Name the database first, then drop files here' : action.busy.value ? `Writing: ${many(n.value, 'document')}` : 'Drop files here, or choose them: JSON becomes documents, other files attachments'}</Drop>
    <ErrorNote error={action.error.value} />
    {done.value && <Note kind={done.value.refused.length ? 'warn' : 'good'}><div>{many(done.value.written, 'document')} written.{done.value.refused.length > 0 && <> {many(done.value.refused.length, 'was', 'were')} refused: {done.value.refused.slice(0, 3).join('; ')}</>}</div></Note>}
  </>;
}

function Form() {
  const names = useLoaded(localNames, [turn.value]), chosen = useSignal(query.value.get('db') ?? ''), fresh = useSignal(''), title = useSignal(''), about = useSignal('');
  const readOnly = useSignal(true), admit = useSignal<Admit>('all'), hours = useSignal(0), hub = useSignal(hubs.value[0] ?? 'hub'), action = useAction();
  const isNew = chosen.value === making || (!chosen.value && names.value?.length === 0), db = (isNew ? fresh.value : chosen.value || names.value?.[0] || '').trim();
  const submit = () => action.run(async () => {
    await share(db, { hub: hub.value, name: title.value.trim() || db, info: about.value, readOnly: readOnly.value, admit: admit.value, until: hours.value ? new Date(Date.now() + hours.value * 3_600_000) : undefined });
    chosen.value = db;
    title.value = about.value = fresh.value = '';
    turn.value++;
  });
  return <form class="card stack" onSubmit={e => { e.preventDefault(); void submit(); }}>
    <h2>Share a database</h2>
    <div class="columns">
      <div class="stack">
        {(names.value?.length ?? 0) > 0 && <Select label="Database in this browser" value={isNew ? making : db} onChange={e => chosen.value = e.currentTarget.value}>
          {names.value!.map(n => <option key={n} value={n}>{n}</option>)}<option value={making}>A new one…</option></Select>}
        {isNew && <Field label="Name of the new database" required maxLength={64} placeholder="notes" value={fresh.value} onInput={e => fresh.value = e.currentTarget.value} />}
        <Fill name={db} />
      </div>
      <div class="stack">
        <Field label="Shared as" placeholder={db || 'notes'} hint="What others see" maxLength={100} value={title.value} onInput={e => title.value = e.currentTarget.value} />
        <Field label="About it" hint="A line for the others, if you like" maxLength={500} value={about.value} onInput={e => about.value = e.currentTarget.value} />
        {hubs.value.length > 1 && <Select label="Hub database" value={hub.value} onChange={e => hub.value = e.currentTarget.value}>{hubs.value.map(h => <option key={h}>{h}</option>)}</Select>}
        <Check label="Read only" hint="Others may read and copy, but not change anything" checked={readOnly.value} onChange={e => readOnly.value = e.currentTarget.checked} />
        <Select label="Who may open it" value={admit.value} onChange={e => admit.value = e.currentTarget.value as Admit}>
          <option value="all">Everybody on this hub</option><option value="invite">Who has the link</option><option value="ask">Whom I let in, each time</option></Select>
        <Select label="Ends" value={String(hours.value)} onChange={e => hours.value = Number(e.currentTarget.value)}>
          <option value="0">With this tab</option><option value="1">After an hour</option><option value="24">After a day</option><option value="168">After a week</option></Select>
      </div>
    </div>
    <ErrorNote error={names.error ?? action.error.value} />
    <div class="actions"><button class="primary" disabled={action.busy.value || !db}><Icon name="share" />Share</button></div>
  </form>;
}

export function ShareHere() {
  return <>
    <Head title="Share from here" sub="Databases of this browser, for others to open directly from it" />
    {shared.value.length > 0 && <section class="stack" aria-labelledby="mine"><h2 id="mine">Shared now</h2>
      <Note kind="warn"><Icon name="warn" /><div><strong>Keep this tab open.</strong> Your databases are shared as long as it is, and disappear from the hub with it.</div></Note>
      <ul class="stack">{shared.value.map(s => <Running key={s.id} s={s} />)}</ul></section>}
    <Form />
  </>;
}
