// One share: what it is, how to open it here and from programs, and its link.
import { useEffect } from 'preact/hooks';
import type { SharedDatabase } from 'pouchdb-loveseat/peer.js';
import { Badge, Copy, Facts, Head, Line } from '../parts/bits.js';
import { Icon } from '../parts/icon.js';
import { Busy, Empty, ErrorNote } from '../parts/notes.js';
import { AccessBadge, AdmissionBadge, PeerCode, RouteBadge } from '../parts/peer.js';
import { QR } from '../parts/qr.js';
import { Snippets } from '../parts/snippets.js';
import { count, span } from '../state/format.js';
import { useNow } from '../state/load.js';
import { hubOf, inviteFor, type Joined, keepInvite } from '../state/peers.js';
import { base, browseShare, fragment, segments, to } from '../state/route.js';
import { signedIn, config } from '../state/session.js';
import { verificationOf } from '../state/verification.js';
import { LoginForm } from './login.js';

const quoted = (s: string) => `'${s.replaceAll("'", `'\\''`)}'`;

/** How programs open a share. */
function snippets(s: SharedDatabase, hub: string, link: string, secret: string): Record<string, string> {
  const js = JSON.stringify, file = s.db.replace(/[^\w-]/g, '_') || 'copy', ref = secret ? link : s.id, shell = secret ? quoted(link) : s.id;
  return {
    CLI: `loveseat open ${hub} ${shell} --listen 127.0.0.1:5985   # query it in place\nloveseat sync ./data/${file} ${quoted(link)}`,
    curl: `loveseat open ${hub} ${shell} --listen 127.0.0.1:5985 &\ncurl ${quoted(`http://127.0.0.1:5985/${encodeURIComponent(s.db)}/_all_docs?include_docs=true`)}`,
    PouchDB: `import PouchDB from 'pouchdb-browser';\nimport Loveseat from 'pouchdb-loveseat';\nPouchDB.plugin(Loveseat);\n\nconst hub = new PouchDB(${js(hub)});\nawait hub.getSharedDatabases();\nconst remote = new PouchDB(${js(s.dbname + (secret && '#' + secret))});\nPouchDB.sync(${js(file)}, remote, { live: true, retry: true });`,
    Go: `server, err := kivik.New(peeradapter.HTTPDriver, ${js(location.origin + '/')})\n// …\npeer, err := peeradapter.Join(ctx, server.DB(${js(hub.slice(hub.lastIndexOf('/') + 1))}), peeradapter.Options{})\n// …\nremote, err := peer.Open(ctx, ${js(ref)})\n// …\nrow := remote.DB().Get(ctx, "some id")`,
  };
}

function Details({ share: s, hub }: { share: SharedDatabase; hub: Joined }) {
  const now = useNow();
  void hub.turns.value;
  const link = hub.peer?.peers().find(p => p.peer === s.peer), secret = inviteFor(s.id);
  const hubURL = `${location.origin}/${hub.name}`, url = `${hubURL}/share:${s.id}${secret && '#' + secret}`;
  const about = (s.info as { about?: unknown } | null)?.about;
  const info = typeof about === 'string' ? about : s.info === null || s.info === undefined ? undefined : typeof s.info === 'string' ? s.info : JSON.stringify(s.info, null, 1);
  return <>
    <Head title={s.name} back={{ href: base, name: 'Shares' }} sub={<>of <PeerCode peer={s.peer} />{s.own && ' · yours'}</>}>
      {!s.own && <a class="button" href={to(['sync'], { from: `share/${hub.name}/${s.id}` })}><Icon name="sync" />Replicate</a>}
      {!s.own && <a class="button primary" href={browseShare(hub.name, s.id)}>Show documents</a>}
    </Head>
    <div class="columns">
      <section class="card stack" aria-labelledby="about">
        <h2 id="about">About</h2>
        <Facts of={[
          ['State', s.own ? <Badge kind="good">Shared by this browser</Badge> : <RouteBadge route={link?.route ?? ''} connected={!!link} />],
          ['Access', <span class="row"><AccessBadge access={s.access} /><AdmissionBadge admission={s.admission} />{s.filtered && <Badge>A part of it</Badge>}</span>],
          s.until && ['Ends', s.until.toLocaleString()],
          ['Documents', count(s.docCount)],
          ['Database', <code>{s.db}</code>],
          ['Sharer', <code class="wrap">{s.peer}</code>],
          !s.own && ['Verification', <code class="wrap">{verificationOf(hub.peer?.id, s.peer) ?? '…'}</code>],
          ['Renewed', `${span(now - +s.published)} ago, ends in ${span(+s.expires - now)} unless renewed`],
          info !== undefined && ['Info', typeof s.info === 'string' || info === about ? <span class="wrap">{info}</span> : <pre tabIndex={0} aria-label="Info">{info}</pre>],
        ]} />
        {!s.own && <p class="hint">The sharer sees the same verification code beside your connection. Compare it by voice: then you know that nobody is between you.</p>}
      </section>
      <section class="card stack" aria-labelledby="link">
        <h2 id="link">Open it elsewhere</h2>
        <div class="qrbox"><QR text={url} label="QR code of the link" /><div class="stack"><p class="hint">Scan it with a phone, or send the link.{secret ? ' It holds the invite: whoever has it is let in.' : s.admission === 'invite' && ' This share needs an invite, which is a part of the sharer\'s link.'}</p><div><Copy name="Copy the link" text={url} /></div></div></div>
        <Line label="Link" text={url} />
        <Line label="CouchDB URL" text={`http://127.0.0.1:5985/${encodeURIComponent(s.db)}`} />
        <p class="hint">The CouchDB URL works on a machine where <code>loveseat open</code> runs, as below.</p>
      </section>
    </div>
    <section class="card stack" aria-labelledby="code"><h2 id="code">From programs</h2><Snippets of={snippets(s, hubURL, url, secret)} /></section>
  </>;
}

export function ShareScreen() {
  const [, name = '', id = ''] = segments.value, hub = hubOf(name);
  useEffect(() => void keepInvite(id, fragment.value), [id]);
  const shares = hub.shares.value, s = shares?.find(x => x.id === id), error = hub.error.value as { status?: number } | undefined;
  if (s) return <Details share={s} hub={hub} />;
  if (error && (error.status === 401 || error.status === 403) && !signedIn.value && !config.value!.open) {
    return <div class="narrow"><h1>A database is shared with you</h1><p class="dim">The hub asks who you are before it introduces you to the sharer.</p><LoginForm onDone={() => hubOf(name)} /></div>;
  }
  if (error) return <ErrorNote error={error} again={() => hub.join()} />;
  if (!shares) return <Busy what="Asking the hub" />;
  return <Empty icon="link" top title="This share is not there now">
    <p>It is there while the sharer's program or tab is open. Ask them to share it again: this screen shows it at once, with the same link.</p>
    <a class="button" href={base}>See what else is shared</a>
  </Empty>;
}
