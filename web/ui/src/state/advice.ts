// What to do about an error, in a sentence.
import { admin, signedIn } from './session.js';

/** What went wrong, and what helps. */
export interface Advice { what: string; help?: string; logIn?: boolean }

export function advise(e: unknown): Advice {
  const { status = 0, reason, message, name } = (e ?? {}) as { status?: number; reason?: string; message?: string; name?: string };
  const what = reason || message || String(e);
  if (!globalThis.isSecureContext) return { what: 'This page was loaded over plain HTTP.', help: 'Browsers keep keys on https: or localhost pages only. Give the hub a certificate (hubserver --tls-cert), or open it as http://localhost.' };
  if (name === 'gone') return { what, help: 'The sharer has closed it or is offline. It appears again when they share again.' };
  if (name === 'connect' || name === 'ConnectError') return { what, help: 'The sharer could not be reached directly. Check your network; the set-up check shows whether a TURN server is needed.' };
  if (e instanceof TypeError) return { what: 'The hub does not answer.', help: 'Check that hubserver is running and that you are online, then try again.' };
  switch (status) {
    case 401: return { what, help: signedIn.value ? 'Log in as somebody who may.' : 'Log in to go on.', logIn: true };
    case 403:
      if (/invite/i.test(what)) return { what, help: 'Open it by the whole link that the sharer gave you, or ask them for one.' };
      if (/\bshare[rd]?\b/i.test(what)) return { what, help: /read-only/.test(what) ? 'Replicate it to have a copy of your own.' : 'The sharer decides on that: ask them.' };
      return { what, help: admin.value ? undefined : 'Ask the owner or an administrator of the hub for access.', logIn: !signedIn.value };
    case 404: return { what: what === 'missing' || what === 'deleted' ? `This document is ${what}.` : what, help: 'It may have been deleted or renamed meanwhile.' };
    case 409: return { what, help: 'Somebody else changed it meanwhile. Reload it and make your change again.' };
    case 412: return { what, help: /shared already/.test(what) ? 'Stop sharing it before you share it in another way.' : 'Choose another name.' };
    case 413: return { what, help: 'Split it into smaller pieces, or ask an administrator to raise the limit.' };
    case 429: return { what, help: 'Wait a little and try again.' };
    case 503: return { what, help: 'Try again in a moment.' };
  }
  if (status >= 500) return { what, help: 'The hub failed. Its log says more (hubserver --log debug).' };
  return { what };
}
