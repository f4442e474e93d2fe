// What peers share, live.
import { useSignal } from '@preact/signals';
import type { SharedDatabase } from 'pouchdb-loveseat/peer.js';
import { Badge, Head, Select } from '../parts/bits.js';
import { Icon } from '../parts/icon.js';
import { Busy, Empty, ErrorNote } from '../parts/notes.js';
import { AccessBadge, AdmissionBadge, PeerCode, RouteBadge } from '../parts/peer.js';
import { count, span } from '../state/format.js';
import { useNow } from '../state/load.js';
import { hubOf, type Joined } from '../state/peers.js';
import { go, query, to } from '../state/route.js';
import { hubs } from '../state/session.js';
import { verificationOf } from '../state/verification.js';

function Row({ share: s, hub, now }: { share: SharedDatabase; hub: Joined; now: number }) {
  const link = hub.peer?.peers().find(p => p.peer === s.peer);
  return <li><a class="share" href={to(['shares', hub.name, s.id])}>
    <span class="tile" aria-hidden="true"><Icon name="database" /></span>
    <span class="grow">
      <strong class="cut">{s.name}</strong>
      <small class="dim cut"><PeerCode peer={s.peer} /> · {count(s.docCount)} {s.docCount === 1 ? 'document' : 'documents'} · {span(now - +s.published)} ago</small>
      {!s.own && <small class="dim cut">Verification <code>{verificationOf(hub.peer?.id, s.peer) ?? '…'}</code></small>}
    </span>
    <span class="badges">{s.own && <Badge kind="accent">Yours</Badge>}<AccessBadge access={s.access} /><AdmissionBadge admission={s.admission} />{s.own ? <Badge kind="good">Shared</Badge> : <RouteBadge route={link?.route ?? ''} connected={!!link} />}</span>
    <Icon name="right" />
  </a></li>;
}

function None({ hub }: { hub: Joined }) {
  return <Empty icon="shares" title="Nothing is shared yet">
    <p>Share a database from this browser, or from a terminal. It appears here at once.</p>
    <div class="actions"><a class="button primary" href={to(['new'])}><Icon name="share" />Share from here</a></div>
    <pre tabIndex={0} aria-label="Command">{`loveseat share ${location.origin}/${hub.name} ./data/notes --name notes`}</pre>
  </Empty>;
}

const most = 200; // that are shown without being looked for

export function Shares() {
  const name = query.value.get('hub') ?? hubs.value[0] ?? 'hub', hub = hubOf(name), search = useSignal(''), now = useNow();
  void hub.turns.value; // routes change
  const shares = hub.shares.value, q = search.value.toLowerCase();
  const found = shares?.filter(s => `${s.name}\n${s.peer}`.toLowerCase().includes(q));
  return <>
    <Head title="Shares" sub="Databases that people share now, directly from their machines">
      {hubs.value.length > 1 && <Select label="Hub database" value={name} onChange={e => go(to([], { hub: e.currentTarget.value }))}>{hubs.value.map(h => <option key={h}>{h}</option>)}</Select>}
      <a class="button primary" href={to(['new'])}><Icon name="share" />Share from here</a>
    </Head>
    <ErrorNote error={hub.error.value} again={() => hub.join()} />
    {shares && shares.length > 5 && <input class="search" type="search" aria-label="Filter by name or peer" placeholder="Filter by name or peer" value={search.value} onInput={e => search.value = e.currentTarget.value} />}
    {!shares ? !hub.error.value && <Busy what="Asking the hub" /> : !shares.length ? <None hub={hub} />
      : !found!.length ? <Empty icon="search" title="No share has that name"><button type="button" onClick={() => search.value = ''}>Show all</button></Empty>
        : <ul class="list" aria-label="Shares">{found!.slice(0, most).map(s => <Row key={s.id} share={s} hub={hub} now={now} />)}</ul>}
    {(found?.length ?? 0) > most && <p class="dim">The first {most} of {count(found!.length)}: filter by name to see others.</p>}
  </>;
}
