import { useSignal } from '@preact/signals';
import { Field, Tabs } from '../parts/bits.js';
import { Empty, ErrorNote } from '../parts/notes.js';
import { useAction } from '../state/load.js';
import { base, go, query } from '../state/route.js';
import { leaveAll } from '../state/peers.js';
import { config, logIn, signedIn, signUp, user } from '../state/session.js';

/** Where to go after logging in: a screen of this page. */
function next(): string {
  const url = new URL(query.value.get('then') ?? base, location.origin);
  return url.origin === location.origin && url.pathname.startsWith(base) ? url.href : base;
}

export function LoginForm({ onDone }: { onDone: () => void }) {
  const name = useSignal(''), password = useSignal(''), making = useSignal<'in' | 'up'>('in'), action = useAction();
  const submit = async (e: Event) => {
    e.preventDefault();
    const done = await action.run(async () => {
      await (making.value === 'up' ? signUp : logIn)(name.value, password.value);
      await leaveAll(); // peers join again as who they are now
    });
    if (done) onDone();
  };
  return <form class="card stack" onSubmit={submit}>
    {config.value?.signUp && <Tabs label="Account" all={[['in', 'Log in'], ['up', 'Make an account']]} value={making.value} onChange={v => making.value = v} />}
    <Field label="Name" name="username" required autocomplete="username" value={name.value} onInput={e => name.value = e.currentTarget.value} />
    <Field label="Password" name="password" type="password" required autocomplete={making.value === 'up' ? 'new-password' : 'current-password'} value={password.value} onInput={e => password.value = e.currentTarget.value} />
    <ErrorNote error={action.error.value} />
    <button class="primary" disabled={action.busy.value}>{making.value === 'up' ? 'Make the account' : 'Log in'}</button>
    {!config.value?.signUp && <p class="hint">Accounts are made by the hub's administrators.</p>}
  </form>;
}

export function Login() {
  if (config.value!.open) return <Empty icon="lock" top title="This hub has no accounts"><p>Everybody on this machine may do everything. To have accounts, start it with an administrator: <code>LOVESEAT_ADMIN=NAME:PASSWORD hubserver</code></p></Empty>;
  if (signedIn.value) return <Empty icon="users" top title={`You are logged in as ${user.value!.name}`}><a class="button primary" href={base}>See what is shared</a></Empty>;
  return <div class="narrow"><h1>Log in</h1><LoginForm onDone={() => go(next(), true)} /></div>;
}
