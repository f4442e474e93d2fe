// What is said when something is wrong, empty, or not there yet.
import type { ComponentChildren } from 'preact';
import { advise } from '../state/advice.js';
import { Icon, type IconName } from './icon.js';
import { base } from '../state/route.js';

/** An error, with what to do about it. */
export function ErrorNote({ error, again }: { error: unknown; again?: () => void }) {
  if (error === undefined || error === null) return null;
  const a = advise(error);
  return <div class="note bad" role="alert">
    <Icon name="warn" />
    <div class="grow"><strong>{a.what}</strong>{a.help && <p>{a.help}</p>}</div>
    {a.logIn && !location.pathname.endsWith('/login') && <a class="button" href={`${base}login?then=${encodeURIComponent(location.pathname + location.search + location.hash)}`}>Log in</a>}
    {again && <button type="button" onClick={again}>Try again</button>}
  </div>;
}

/** Something worth knowing. */
export function Note({ children, kind = '' }: { children: ComponentChildren; kind?: '' | 'good' | 'warn' }) {
  return <div class={`note ${kind}`} role="status">{children}</div>;
}

/** Nothing is here, and how to change that. top: it is all there is on the screen. */
export function Empty({ icon, title, top = false, children }: { icon: IconName; title: string; top?: boolean; children?: ComponentChildren }) {
  return <div class="empty"><Icon name={icon} />{top ? <h1>{title}</h1> : <h2>{title}</h2>}{children}</div>;
}

/** It is being loaded. */
export function Busy({ what = 'Loading' }: { what?: string }) {
  return <p class="busy" role="status"><span class="spinner" aria-hidden="true" />{what}…</p>;
}
