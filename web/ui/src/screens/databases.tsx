// The databases on the hub and in this browser.
import { useSignal } from '@preact/signals';
import { Badge, Field, Head, Sure } from '../parts/bits.js';
import { Icon } from '../parts/icon.js';
import { Busy, Empty, ErrorNote } from '../parts/notes.js';
import { hub } from '../state/api.js';
import type { Info } from '../state/couch.js';
import { bytes, count } from '../state/format.js';
import { useAction, useLoaded } from '../state/load.js';
import { browse, onHub } from '../state/place.js';
import { destroyLocal, local, localNames, turn } from '../state/pouch.js';
import { go, to } from '../state/route.js';
import { admin, config, hubs, user } from '../state/session.js';

const most = 500;
type Found = { name: string; info?: Info };

/** The databases that the user may list: all for administrators, otherwise the hub databases. */
async function onTheHub(signal: AbortSignal): Promise<Found[]> {
  const all = admin.value ? await hub<string[]>('/_all_dbs', { signal }) : hubs.value, names = all.slice(0, most);
  return Promise.all(names.map(async name => ({ name, info: await onHub(name).info(signal).catch(() => undefined) })));
}

function Make({ onMade }: { onMade: (name: string) => void }) {
  const name = useSignal(''), action = useAction();
  const make = async () => {
    if (await action.run(() => hub(`/${encodeURIComponent(name.value)}`, { method: 'PUT' }))) onMade(name.value);
  };
  return <form class="card stack medium" onSubmit={e => { e.preventDefault(); void make(); }}>
    <Field label="Name of the new database" required pattern="[a-z][a-z0-9_$\(\)+\/\-]*" hint="Lower case letters, digits and _ $ ( ) + - /, beginning with a letter. At first only administrators may use it." value={name.value} onInput={e => name.value = e.currentTarget.value} />
    <ErrorNote error={action.error.value} />
    <div class="actions"><button class="primary" disabled={action.busy.value}>Create</button></div>
  </form>;
}

function HubTable({ found }: { found: Found[] }) {
  return <div class="table" tabIndex={0} role="region" aria-label="Databases on the hub"><table>
    <thead><tr><th scope="col">Name</th><th scope="col" class="num">Documents</th><th scope="col" class="num">Size</th>{admin.value && <th scope="col"><span class="hidden">Settings</span></th>}</tr></thead>
    <tbody>{found.map(({ name, info }) => <tr key={name}>
      <th scope="row">{info ? <a href={browse({ kind: 'hub', name })}>{name}</a> : name} {hubs.value.includes(name) && <Badge kind="accent">Hub</Badge>}</th>
      <td class="num">{info ? count(info.doc_count) : <Badge title="You may not read it">No access</Badge>}</td><td class="num">{info?.sizes?.file !== undefined && bytes(info.sizes.file)}</td>
      {admin.value && <td class="num"><a href={to(['database', name])} aria-label={`Settings of ${name}`}>Settings</a></td>}
    </tr>)}</tbody>
  </table></div>;
}

function ByName() {
  const name = useSignal('');
  return <form class="row" onSubmit={e => { e.preventDefault(); go(browse({ kind: 'hub', name: name.value })); }}>
    <input class="search" required aria-label="Open a database of the hub by its name" placeholder="Open a database by its name" value={name.value} onInput={e => name.value = e.currentTarget.value} /><button>Open</button>
  </form>;
}

function Here() {
  const list = useLoaded(async () => Promise.all((await localNames()).map(async name => ({ name, count: (await (await local(name)).info()).doc_count as number }))), [turn.value]);
  const action = useAction();
  return <section class="stack" aria-labelledby="here">
    <div class="row"><h2 id="here">In this browser</h2><a class="button" href={to(['new'])}><Icon name="plus" />Create or import</a></div>
    <ErrorNote error={list.error ?? action.error.value} again={list.again} />
    {!list.value ? list.busy && <Busy /> : !list.value.length ? <Empty icon="database" title="No databases here yet"><p>Replicate a share to have its documents offline, or create a database to share it.</p></Empty>
      : <div class="table" tabIndex={0} role="region" aria-label="Databases in this browser"><table>
        <thead><tr><th scope="col">Name</th><th scope="col" class="num">Documents</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
        <tbody>{list.value.map(d => <tr key={d.name}><th scope="row"><a href={browse({ kind: 'here', name: d.name })}>{d.name}</a></th><td class="num">{count(d.count)}</td>
          <td class="num"><span class="row end"><a class="button" href={to(['new'], { db: d.name })}>Share</a><Sure ask="Delete it here?" onSure={() => action.run(() => destroyLocal(d.name))}>Delete</Sure></span></td></tr>)}</tbody>
      </table></div>}
  </section>;
}

export function Databases() {
  const list = useLoaded(onTheHub, [user.value, config.value]), making = useSignal(false);
  const made = (name: string) => { making.value = false; list.again(); go(to(['database', name])); };
  return <>
    <Head title="Databases">{admin.value && <button type="button" class="primary" aria-expanded={making.value} onClick={() => making.value = !making.value}><Icon name="plus" />New database on the hub</button>}</Head>
    {making.value && <Make onMade={made} />}
    <section class="stack" aria-labelledby="onhub">
      <div class="row"><h2 id="onhub">On the hub</h2>{!admin.value && <ByName />}</div>
      <ErrorNote error={list.error} again={list.again} />
      {!list.value ? list.busy && <Busy /> : <HubTable found={list.value} />}
      {list.value?.length === most && <p class="dim">The first {most}. Others open by their address: <code>{browse({ kind: 'hub', name: 'NAME' })}</code></p>}
    </section>
    <Here />
  </>;
}
