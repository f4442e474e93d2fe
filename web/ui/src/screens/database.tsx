// One database of the hub, for administrators: its size, who may use it, its end.
import { useSignal } from '@preact/signals';
import { Facts, Field, Head, Sure } from '../parts/bits.js';
import { Busy, ErrorNote, Note } from '../parts/notes.js';
import { hub } from '../state/api.js';
import type { Members, Security } from '../state/couch.js';
import { bytes, count } from '../state/format.js';
import { useAction, useLoaded } from '../state/load.js';
import { browse, onHub } from '../state/place.js';
import { go, segments, to } from '../state/route.js';
import { hubs } from '../state/session.js';

const list = (s: string) => s.split(',').map(x => x.trim()).filter(Boolean);
const text = (l: string[] | undefined) => (l ?? []).join(', ');

function Who({ security, name }: { security: Security; name: string }) {
  const edit = useSignal({ ...security }), action = useAction(), saved = useSignal(false);
  const set = (group: 'admins' | 'members', kind: keyof Members, v: string) => {
    edit.value = { ...edit.value, [group]: { ...edit.value[group], [kind]: list(v) } };
    saved.value = false;
  };
  const save = async () => {
    saved.value = await action.run(() => onHub(name).setSecurity(edit.value));
  };
  const field = (group: 'admins' | 'members', kind: keyof Members, label: string) =>
    <Field label={label} value={text(edit.value[group]?.[kind])} onChange={e => set(group, kind, e.currentTarget.value)} />;
  return <form class="card stack" onSubmit={e => { e.preventDefault(); void save(); }}>
    <h2>Who may use it</h2>
    <p class="hint">With commas between. Members read and write documents; without any member everybody does. Its administrators also write design documents and this.</p>
    <div class="columns">{field('members', 'names', 'Members, by name')}{field('members', 'roles', 'Members, by role')}{field('admins', 'names', 'Administrators, by name')}{field('admins', 'roles', 'Administrators, by role')}</div>
    <ErrorNote error={action.error.value} />
    <div class="actions"><button class="primary" disabled={action.busy.value}>Save</button>{saved.value && <span role="status" class="dim">Saved</span>}</div>
  </form>;
}

export function DatabaseScreen() {
  const name = segments.value[1] ?? '', action = useAction();
  const loaded = useLoaded(async signal => ({ info: await onHub(name).info(signal), security: await onHub(name).security() }), [name]);
  const path = '/' + encodeURIComponent(name), said = useSignal('');
  const compact = () => action.run(async () => {
    await hub(path + '/_compact', { method: 'POST', json: {} });
    said.value = 'Compaction has begun.';
  });
  const destroy = async () => { if (await action.run(() => hub(path, { method: 'DELETE' }))) go(to(['databases'])); };
  const v = loaded.value;
  return <>
    <Head title={name} back={{ href: to(['databases']), name: 'Databases' }}><a class="button primary" href={browse({ kind: 'hub', name })}>Show documents</a></Head>
    <ErrorNote error={loaded.error ?? action.error.value} again={loaded.error ? loaded.again : undefined} />
    {said.value && <Note kind="good">{said.value}</Note>}
    {!v ? loaded.busy && <Busy /> : <>
      <section class="card stack"><h2>About</h2>
        <Facts of={[['Documents', count(v.info.doc_count)], ['Deleted', count(v.info.doc_del_count ?? 0)], ['Sequence', <code>{String(v.info.update_seq).split('-')[0]}</code>],
          v.info.sizes?.file !== undefined && ['On disk', bytes(v.info.sizes.file)], ['URL', <code class="wrap">{location.origin + path}</code>]]} />
        <div class="actions"><button type="button" disabled={action.busy.value} onClick={compact}>Compact</button>
          {!hubs.value.includes(name) && !name.startsWith('_') && <Sure ask={`Delete ${name} and all its documents?`} icon="trash" onSure={destroy}>Delete the database</Sure>}</div>
      </section>
      {name !== '_users' && <Who key={name} security={v.security} name={name} />}
    </>}
  </>;
}
