// The hub's API, over the browser's cookie.

/** An answer that is an error, in CouchDB's words. */
export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, readonly reason: string) {
    super(reason || code);
  }
}

export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

/** fetch to the hub. */
export const hubFetch: Fetch = (url, init) => fetch(url, { ...init, credentials: 'same-origin' });

/** Throws what an answer says is wrong. */
export async function checked(r: Response): Promise<Response> {
  if (r.ok) return r;
  const e = await r.json().catch(() => ({})) as { error?: string; reason?: string };
  throw new ApiError(r.status, e.error ?? 'error', e.reason ?? r.statusText);
}

/** Sends JSON and reads JSON. */
export async function json<T>(fetch: Fetch, url: string, init: RequestInit & { json?: unknown } = {}): Promise<T> {
  const { json: body, ...rest } = init, headers = new Headers(rest.headers);
  headers.set('Accept', 'application/json');
  if (body !== undefined) {
    headers.set('Content-Type', 'application/json');
    rest.body = JSON.stringify(body);
    rest.method ??= 'POST';
  }
  return await (await checked(await fetch(url, { ...rest, headers }))).json() as T;
}

/** The same, to the hub; path begins with "/". */
export const hub = <T>(path: string, init?: RequestInit & { json?: unknown }): Promise<T> => json<T>(hubFetch, path, init);
