// One document: shown, edited, its conflicts and its attachments.
import { useSignal } from '@preact/signals';
import { Badge, Copy, Field, Head, Sure } from '../../parts/bits.js';
import { Icon } from '../../parts/icon.js';
import { Json } from '../../parts/json.js';
import { JsonEdit, parseObject } from '../../parts/jsonedit.js';
import { Busy, ErrorNote, Note } from '../../parts/notes.js';
import type { Database, Doc } from '../../state/couch.js';
import { useAction, useLoaded } from '../../state/load.js';
import { browse, type Place, placeName } from '../../state/place.js';
import { go } from '../../state/route.js';
import { Attachments } from './attachments.js';
import { Conflicts } from './conflicts.js';

interface Props { id: string; place: Place; db: Database; readOnly: boolean }

export function DocScreen(p: Props) {
  return p.id === '' ? <New {...p} /> : <Existing {...p} />;
}

const back = (place: Place) => ({ href: browse(place), name: placeName(place) });

/** Text of a document for editing: without what CouchDB keeps track of. */
function editable({ _rev, _attachments, _conflicts, ...rest }: Doc): string {
  return JSON.stringify(rest, null, 2);
}

function New({ place, db }: Props) {
  const id = useSignal(''), text = useSignal('{\n  \n}'), action = useAction();
  const save = async () => {
    let made = '';
    const ok = await action.run(async () => {
      const { value, error } = parseObject(text.value);
      if (!value) throw new Error(error);
      made = id.value || String(value._id ?? '') || crypto.randomUUID();
      await db.put({ ...value, _id: made });
    });
    if (ok) go(browse(place, { doc: made }), true);
  };
  return <>
    <Head title="New document" back={back(place)} />
    <form class="stack" onSubmit={e => { e.preventDefault(); void save(); }}>
      <Field label="Id" hint="Left empty, it gets a random one" value={id.value} onInput={e => id.value = e.currentTarget.value} />
      <JsonEdit label="Content" value={text.value} onChange={t => text.value = t} onSave={save} />
      <ErrorNote error={action.error.value} />
      <div class="actions"><button class="primary" disabled={action.busy.value}>Save</button><a class="button" href={browse(place)}>Cancel</a></div>
    </form>
  </>;
}

function Existing({ id, place, db, readOnly }: Props) {
  const loaded = useLoaded(() => db.get(id, { conflicts: true }), [db, id]), doc = loaded.value;
  const editing = useSignal<string>(), action = useAction();
  const save = async () => {
    const ok = await action.run(async () => {
      const { value, error } = parseObject(editing.value!);
      if (!value) throw new Error(error);
      if (value._id !== id) throw new Error('The id cannot be changed: make a new document instead.');
      await db.put({ ...value, _id: id, _rev: doc!._rev, ...doc!._attachments && { _attachments: doc!._attachments } });
    });
    if (!ok) return;
    editing.value = undefined;
    loaded.again();
  };
  const remove = async () => { if (await action.run(() => db.remove(id, doc!._rev!))) go(browse(place)); };
  if (loaded.error) return <><Head title={id} back={back(place)} /><ErrorNote error={loaded.error} again={loaded.again} /></>;
  if (!doc) return <><Head title={id} back={back(place)} /><Busy /></>;
  const { _attachments, _conflicts, ...shown } = doc;
  return <>
    <Head title={<span class="wrap">{id}</span>} back={back(place)} sub={<><code class="wrap">{doc._rev}</code> {_conflicts && <Badge kind="warn">{_conflicts.length + 1} versions</Badge>}</>}>
      <Copy name="Copy JSON" text={() => JSON.stringify(shown, null, 2)} />
      {!readOnly && editing.value === undefined && <button type="button" onClick={() => editing.value = editable(doc)}><Icon name="pencil" />Edit</button>}
      {!readOnly && editing.value === undefined && <Sure ask="Delete it everywhere?" icon="trash" onSure={remove} disabled={action.busy.value}>Delete</Sure>}
    </Head>
    <ErrorNote error={action.error.value} />
    {_conflicts && editing.value === undefined && <Conflicts db={db} doc={doc} readOnly={readOnly} onDone={loaded.again} />}
    {editing.value !== undefined ? <form class="stack" onSubmit={e => { e.preventDefault(); void save(); }}>
      <JsonEdit label="Content" value={editing.value} onChange={t => editing.value = t} onSave={save} />
      <div class="actions"><button class="primary" disabled={action.busy.value}>Save</button><button type="button" onClick={() => { editing.value = undefined; action.error.value = undefined; }}>Cancel</button><span class="hint">Ctrl-S saves, too</span></div>
    </form> : !_conflicts && <Json value={shown} label="Content" />}
    {readOnly && <Note>This share is read-only: what you see cannot be changed here. Replicate it to have a copy of your own.</Note>}
    <Attachments db={db} doc={doc} readOnly={readOnly} onDone={loaded.again} />
  </>;
}
