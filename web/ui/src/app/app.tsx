// The page's frame, and the screens by their paths.
import { useEffect } from 'preact/hooks';
import type { ComponentType } from 'preact';
import { Busy, Empty, ErrorNote } from '../parts/notes.js';
import { base, segments } from '../state/route.js';
import { config, failed, loadSession, user } from '../state/session.js';
import { Shares } from '../screens/shares.js';
import { ShareScreen } from '../screens/share.js';
import { Login } from '../screens/login.js';
import { Asks } from './asks.js';
import { later } from './later.js';
import { Nav } from './nav.js';

const screens: Record<string, ComponentType> = {
  '': Shares,
  shares: ShareScreen,
  login: Login,
  browse: later(() => import('../screens/browse.js').then(m => m.Browse)),
  databases: later(() => import('../screens/databases.js').then(m => m.Databases)),
  database: later(() => import('../screens/database.js').then(m => m.DatabaseScreen)),
  new: later(() => import('../screens/sharehere.js').then(m => m.ShareHere)),
  sync: later(() => import('../screens/sync.js').then(m => m.Sync)),
  peers: later(() => import('../screens/peers.js').then(m => m.Peers)),
  users: later(() => import('../screens/users.js').then(m => m.Users)),
  settings: later(() => import('../screens/settings.js').then(m => m.Settings)),
  check: later(() => import('../screens/check.js').then(m => m.CheckScreen)),
};

function Missing() {
  return <Empty icon="search" top title="There is no such screen"><p>The address may be mistyped.</p><a class="button primary" href={base}>See what is shared</a></Empty>;
}

export function App() {
  const path = segments.value, Screen = screens[path[0] ?? ''] ?? Missing;
  useEffect(() => {
    const heading = () => {
      const h = document.querySelector('main h1')?.textContent;
      document.title = h ? `${h} · Loveseat` : 'Loveseat';
    };
    heading();
    const seen = new MutationObserver(heading);
    seen.observe(document.querySelector('main')!, { subtree: true, childList: true, characterData: true });
    return () => seen.disconnect();
  }, []);
  return <>
    <a class="skip" href="#main" onClick={e => { e.preventDefault(); document.getElementById('main')!.focus(); }}>Skip to content</a>
    <Nav at={path[0] === 'browse' && path[1] === 'share' ? 'shares' : path[0] ?? ''} />
    <main id="main" tabIndex={-1}>
      {failed.value ? <ErrorNote error={failed.value} again={loadSession} />
        : config.value && user.value ? <Screen key={path.slice(0, 4).join('/')} /> : <Busy />}
    </main>
    <Asks />
  </>;
}
