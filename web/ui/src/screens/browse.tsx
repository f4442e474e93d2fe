// The documents of a database, wherever it is.
import { Badge, Head, Tabs } from '../parts/bits.js';
import { Icon } from '../parts/icon.js';
import { Busy, Empty, ErrorNote } from '../parts/notes.js';
import { PeerCode, RouteBadge } from '../parts/peer.js';
import type { Database } from '../state/couch.js';
import { count } from '../state/format.js';
import { useLoaded, useNow } from '../state/load.js';
import { hubOf } from '../state/peers.js';
import { browse, openPlace, parsePlace, type Place, placeName, placePath, whereIs } from '../state/place.js';
import { base, go, query, segments, to } from '../state/route.js';
import { Changes } from './browse/changes.js';
import { DocScreen } from './browse/doc.js';
import { DocList } from './browse/list.js';
import { Query } from './browse/query.js';

const views = [['docs', 'Documents'], ['query', 'Query'], ['changes', 'Changes']] as const;

/** Where the back link leads. */
function up(p: Place) {
  return p.kind === 'share' ? { href: to(['shares', p.hub, p.id]), name: 'The share' } : { href: to(['databases']), name: 'Databases' };
}

function Where({ place }: { place: Place }) {
  if (place.kind !== 'share') return <>{whereIs(place)}</>;
  const hub = hubOf(place.hub), s = hub.shares.value?.find(x => x.id === place.id);
  void hub.turns.value;
  const link = hub.peer?.peers().find(p => p.peer === s?.peer);
  return <>{s && <>of <PeerCode peer={s.peer} /></>} <RouteBadge route={link?.route ?? ''} connected={!!link} /></>;
}

/** What is shown while the first request of a share makes the connection. */
function Connecting({ since }: { since: number }) {
  const long = useNow(1000) - since > 8000;
  return <><Busy what={long ? 'Still connecting to the sharer' : 'Connecting'} />
    {long && <p class="hint">Their tab may be asleep, or no network path was found yet. It is tried until they are gone. <a href={to(['check'])}>Check the set-up</a></p>}</>;
}

export function Browse() {
  const place = parsePlace(segments.value.slice(1));
  if (!place) return <Empty icon="search" top title="No database has this address"><a class="button" href={base}>See what is shared</a></Empty>;
  return <Opened place={place} key={placePath(place).join('/')} />;
}

function Opened({ place }: { place: Place }) {
  const opened = useLoaded(async signal => {
    const db = await openPlace(place);
    return { db, info: await db.info(signal) };
  }, []);
  if (opened.error) return <><Head title={placeName(place)} back={up(place)} /><ErrorNote error={opened.error} again={opened.again} /></>;
  if (!opened.value) return <><Head title={placeName(place)} back={up(place)} /><Connecting since={Date.now()} /></>;
  const share = place.kind === 'share' ? hubOf(place.hub).shares.value?.find(s => s.id === place.id) : undefined;
  return <Views place={place} db={opened.value.db} total={opened.value.info.doc_count} readOnly={share?.access === 'read'} />;
}

function Views({ place, db, total, readOnly }: { place: Place; db: Database; total: number; readOnly: boolean }) {
  const id = query.value.get('doc'), view = (query.value.get('view') ?? 'docs') as typeof views[number][0];
  if (id !== null) return <DocScreen key={id} id={id} place={place} db={db} readOnly={readOnly} />;
  return <>
    <Head title={placeName(place)} back={up(place)} sub={<><Where place={place} /> · {count(total)} {total === 1 ? 'document' : 'documents'} {readOnly && <Badge>Read only</Badge>}</>}>
      {place.kind !== 'here' && <a class="button" href={to(['sync'], { from: placePath(place).join('/') })}><Icon name="sync" />Replicate</a>}
      {!readOnly && <a class="button primary" href={browse(place) + '?doc='}><Icon name="plus" />New document</a>}
    </Head>
    <Tabs label="View" all={views} value={view} onChange={v => go(browse(place, { view: v === 'docs' ? undefined : v }), true)} />
    {view === 'query' ? <Query place={place} db={db} /> : view === 'changes' ? <Changes place={place} db={db} /> : <DocList place={place} db={db} />}
  </>;
}
