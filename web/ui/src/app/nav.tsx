// The navigation, and who is logged in.
import { signal } from '@preact/signals';
import { Icon, type IconName } from '../parts/icon.js';
import { nextTheme, theme } from '../state/theme.js';
import { base, to } from '../state/route.js';
import { admin, config, hubs, logOut, signedIn, user } from '../state/session.js';
import { leaveAll } from '../state/peers.js';
import { running, sharing } from '../state/counts.js';

const open = signal(false);

interface Item { path: string; name: string; icon: IconName; also?: string[]; admin?: boolean; count?: number }

const items = (): Item[] => [
  { path: '', name: 'Shares', icon: 'shares', also: ['shares'] },
  { path: 'new', name: 'Share from here', icon: 'share', count: sharing.value },
  { path: 'sync', name: 'Replication', icon: 'sync', count: running.value },
  { path: 'databases', name: 'Databases', icon: 'database', also: ['database', 'browse'] },
  { path: 'peers', name: 'Peers', icon: 'peers' },
  { path: 'users', name: 'Users', icon: 'users', admin: true },
  { path: 'settings', name: 'Server', icon: 'settings', admin: true },
  { path: 'check', name: 'Set-up check', icon: 'check' },
];

function Link({ item, at }: { item: Item; at: string }) {
  const here = item.path === at || !!item.also?.includes(at);
  return <li><a href={base + item.path} aria-current={here ? 'page' : undefined} onClick={() => open.value = false}>
    <Icon name={item.icon} /><span>{item.name}</span>{!!item.count && <b class="count" aria-label={`${item.count} running`}>{item.count}</b>}
  </a></li>;
}

async function leave(): Promise<void> {
  await logOut();
  await leaveAll();
}

function Who() {
  const themes = { auto: ['auto', 'as the system'], light: ['sun', 'light'], dark: ['moon', 'dark'] } as const, [icon, name] = themes[theme.value];
  return <div class="who">
    {config.value?.open ? <span class="dim" title="The hub has no administrator, so everybody who reaches it may do everything">No accounts</span>
      : signedIn.value ? <span class="name" title={user.value!.roles.join(', ')}>{user.value!.name}</span>
        : <a class="button" href={to(['login'])}>Log in</a>}
    {signedIn.value && <button type="button" class="plain" title="Log out" aria-label="Log out" onClick={leave}><Icon name="exit" /></button>}
    <button type="button" class="plain" title={`Colours: ${name}`} aria-label={`Colours: ${name}. Change`} onClick={() => theme.value = nextTheme()}><Icon name={icon} /></button>
  </div>;
}

export function Nav({ at }: { at: string }) {
  const close = (e: KeyboardEvent) => e.key === 'Escape' && (open.value = false);
  return <header class={open.value ? 'side open' : 'side'} onKeyDown={close}>
    <div class="brand"><a href={base}><img src={base + 'icon.svg'} alt="" width="24" height="24" />Loveseat</a>
      <button type="button" class="plain menu" aria-label="Menu" aria-expanded={open.value} aria-controls="nav" onClick={() => open.value = !open.value}><Icon name={open.value ? 'cross' : 'menu'} /></button></div>
    <nav id="nav" aria-label="Main">
      <ul>{items().filter(i => !i.admin || admin.value).map(i => <Link key={i.path} item={i} at={at} />)}</ul>
      <Who />
      <p class="host dim" title={`Hub database ${hubs.value.join(', ')}`}>{location.host}</p>
    </nav>
  </header>;
}
