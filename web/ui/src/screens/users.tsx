// Accounts, for administrators.
import { useSignal } from '@preact/signals';
import { Badge, Field, Head, Sure } from '../parts/bits.js';
import { Icon } from '../parts/icon.js';
import { Busy, Empty, ErrorNote } from '../parts/notes.js';
import type { Doc } from '../state/couch.js';
import { useAction, useLoaded } from '../state/load.js';
import { browse, onHub } from '../state/place.js';
import { admin, config } from '../state/session.js';

const most = 1000;
const prefix = 'org.couchdb.user:';
interface User extends Doc { name: string; roles: string[] }

function Form({ user, onDone }: { user?: User; onDone: () => void }) {
  const name = useSignal(user?.name ?? ''), password = useSignal(''), roles = useSignal((user?.roles ?? []).join(', ')), action = useAction();
  const save = async () => {
    const ok = await action.run(() => onHub('_users').put({
      ...user, _id: prefix + name.value, name: name.value, type: 'user', roles: roles.value.split(',').map(r => r.trim()).filter(Boolean), ...password.value && { password: password.value },
    }));
    if (ok) onDone();
  };
  return <form class="card stack medium" aria-label={user ? `Account of ${user.name}` : 'New account'} onSubmit={e => { e.preventDefault(); void save(); }}>
    <Field label="Name" required disabled={!!user} value={name.value} onInput={e => name.value = e.currentTarget.value} />
    <Field label="Password" type="password" required={!user} autocomplete="new-password" hint={user && 'Left empty, it stays as it is. A new one ends the sessions of the account.'} value={password.value} onInput={e => password.value = e.currentTarget.value} />
    <Field label="Roles" hint="With commas between; databases and hub databases name them" value={roles.value} onInput={e => roles.value = e.currentTarget.value} />
    <ErrorNote error={action.error.value} />
    <div class="actions"><button class="primary" disabled={action.busy.value}>Save</button><button type="button" onClick={onDone}>Cancel</button></div>
  </form>;
}

export function Users() {
  const list = useLoaded(async signal => (await onHub('_users').page(prefix, most, signal, prefix + '\ufff0')).rows.map(r => r.doc as User), []);
  const editing = useSignal<User | 'new'>(), action = useAction();
  const done = () => { editing.value = undefined; list.again(); };
  if (!admin.value) return <Empty icon="lock" top title="For administrators"><p>Log in as an administrator of the hub to see its accounts.</p></Empty>;
  return <>
    <Head title="Users" sub="Accounts of this hub">{!editing.value && <button type="button" class="primary" onClick={() => editing.value = 'new'}><Icon name="plus" />New account</button>}</Head>
    {config.value?.open && <div class="note warn"><Icon name="warn" /><div>This hub has no administrator yet, so everybody on this machine may do everything. Start it with <code>LOVESEAT_ADMIN=NAME:PASSWORD</code> to make accounts count.</div></div>}
    {editing.value && <Form key={editing.value === 'new' ? '' : editing.value._rev} user={editing.value === 'new' ? undefined : editing.value} onDone={done} />}
    <ErrorNote error={list.error ?? action.error.value} again={list.again} />
    {!list.value ? list.busy && <Busy /> : !list.value.length ? <Empty icon="users" title="No accounts yet"><p>Make one for each person who shares or opens databases here.{config.value?.signUp && ' Everybody may also make one by themselves.'}</p></Empty>
      : <div class="table" tabIndex={0} role="region" aria-label="Accounts"><table><thead><tr><th scope="col">Name</th><th scope="col">Roles</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
        <tbody>{list.value.map(u => <tr key={u._id}><th scope="row">{u.name}</th><td>{(u.roles ?? []).map(r => <Badge key={r}>{r}</Badge>)}</td>
          <td class="num"><span class="row end"><button type="button" aria-label={`Edit ${u.name}`} onClick={() => editing.value = u}>Edit</button>
            <Sure ask={`Delete ${u.name}?`} onSure={async () => { await action.run(() => onHub('_users').remove(u._id, u._rev!)); list.again(); }}>Delete</Sure></span></td></tr>)}</tbody></table></div>}
    {list.value?.length === most && <p class="dim">The first {most} accounts. Others are in <a href={browse({ kind: 'hub', name: '_users' })}>the database _users</a>.</p>}
  </>;
}
