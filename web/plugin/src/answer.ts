// What a sharer answers is a stranger's: it is made anew before it is handed to the page's programs, as
// `loveseat open` does, whose list this is (internal/couchhttp/foreign.go). What is not listed is left out.
import { CouchError } from './errors.js';

/** The headers that pass as they are: a Response does nothing with them. Content-Type and Location are judged apart. */
export const foreignHeaders = ['accept-encoding', 'accept-ranges', 'allow', 'content-md5', 'content-range', 'etag', 'retry-after'];

const typeForm = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+( ?; ?[\w-]+=([\w!#$&^.+'()/:=?-]+|"[ !#-[\]-~]*"))*$/;

/** A media type as it may be handed on. */
export const safeType = (type: unknown): string =>
  typeof type === 'string' && type.length <= 512 && typeForm.test(type) && !/^multipart\/x-/i.test(type) ? type : 'application/octet-stream';

/** Returns what may be handed on of an answer's headers. Throws for an answer that is none of CouchDB's. */
export function foreignAnswer(status: number, headers: Headers, host: string): Headers {
  const coding = headers.get('content-encoding'), place = headers.get('location') ?? '', out = new Headers();
  const home = place.startsWith(`http://${host}/`), known = home ? /^(20[01246]|30[123478]|[45]..)$/ : /^(20[01246]|304|[45]..)$/;
  if (!known.test(String(status)) || status === 407 || coding !== null && coding !== 'gzip') throw new CouchError(502, 'bad_gateway', `The sharer's answer is none of CouchDB's: status ${status}, coding ${coding}.`);
  for (const name of foreignHeaders) if (headers.has(name)) out.set(name, headers.get(name)!);
  if (home) out.set('location', place);
  if (status !== 204 && status !== 304) out.set('content-type', safeType(headers.get('content-type')));
  return out;
}
