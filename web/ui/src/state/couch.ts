// A database by CouchDB's HTTP API, wherever it is: on the hub, at a peer, in this browser.
import { ApiError, checked, type Fetch, json } from './api.js';

export interface Stub { content_type: string; length?: number; digest?: string; data?: string; stub?: boolean }
export interface Doc { _id: string; _rev?: string; _deleted?: boolean; _attachments?: Record<string, Stub>; _conflicts?: string[]; [member: string]: unknown }
export interface Row { id: string; key: string; value: { rev: string }; doc?: Doc }
export interface Info { db_name: string; doc_count: number; doc_del_count?: number; update_seq: unknown; sizes?: { file?: number; active?: number; external?: number } }
export interface Change { seq: unknown; id: string; changes: { rev: string }[]; deleted?: boolean }
export interface Security { admins?: Members; members?: Members; [member: string]: unknown }
export interface Members { names?: string[]; roles?: string[] }

const queryOf = (q: Record<string, unknown>) => new URLSearchParams(Object.entries(q).flatMap(([k, v]) => v === undefined ? [] : [[k, String(v)]])).toString();

/** The path of a document's id. */
const docPath = (id: string) => /^_(design|local)\//.test(id) ? id.split('/', 1)[0] + '/' + encodeURIComponent(id.slice(id.indexOf('/') + 1)) : encodeURIComponent(id);

/** A database. url has no slash at its end. */
export class Database {
  constructor(readonly url: string, readonly fetch: Fetch) {}

  private json<T>(path: string, init?: RequestInit & { json?: unknown }): Promise<T> {
    return json<T>(this.fetch, this.url + path, init);
  }

  info(signal?: AbortSignal): Promise<Info> {
    return this.json('', { signal });
  }

  /** A page of documents, beginning with an id. */
  async page(start: string | undefined, limit: number, signal?: AbortSignal, end?: string): Promise<{ total: number; rows: Row[] }> {
    const q = queryOf({ limit, include_docs: true, startkey: start && JSON.stringify(start), endkey: end && JSON.stringify(end) });
    const { total_rows, rows } = await this.json<{ total_rows: number; rows: Row[] }>('/_all_docs?' + q, { signal });
    return { total: total_rows, rows };
  }

  get(id: string, o: { rev?: string; conflicts?: boolean } = {}): Promise<Doc> {
    return this.json(`/${docPath(id)}?${queryOf(o)}`);
  }

  put(doc: Doc): Promise<{ id: string; rev: string }> {
    return this.json('/' + docPath(doc._id), { method: 'PUT', json: doc });
  }

  /** Deletes a revision, also one that lost a conflict. */
  remove(id: string, rev: string): Promise<{ rev: string }> {
    return this.json(`/${docPath(id)}?${queryOf({ rev })}`, { method: 'DELETE' });
  }

  find(query: object, signal?: AbortSignal): Promise<{ docs: Doc[]; warning?: string }> {
    return this.json('/_find', { json: query, signal });
  }

  security(): Promise<Security> {
    return this.json('/_security');
  }

  setSecurity(s: Security): Promise<unknown> {
    return this.json('/_security', { method: 'PUT', json: s });
  }

  async attachment(id: string, name: string, rev?: string): Promise<Blob> {
    return (await checked(await this.fetch(`${this.url}/${docPath(id)}/${encodeURIComponent(name)}?${queryOf({ rev })}`))).blob();
  }

  putAttachment(id: string, name: string, rev: string | undefined, data: Blob): Promise<{ rev: string }> {
    return this.json(`/${docPath(id)}/${encodeURIComponent(name)}?${queryOf({ rev })}`, { method: 'PUT', body: data, headers: { 'Content-Type': data.type || 'application/octet-stream' } });
  }

  removeAttachment(id: string, name: string, rev: string): Promise<{ rev: string }> {
    return this.json(`/${docPath(id)}/${encodeURIComponent(name)}?${queryOf({ rev })}`, { method: 'DELETE' });
  }

  /** Calls fn with the changes since a sequence, and with later ones until signal is aborted. */
  async follow(since: unknown, signal: AbortSignal, fn: (changes: Change[]) => void): Promise<void> {
    for (let wait = 500; !signal.aborted;) {
      try {
        const q = queryOf({ feed: 'longpoll', since, heartbeat: 10_000, limit: 500 });
        const a = await this.json<{ results: Change[]; last_seq: unknown }>('/_changes?' + q, { signal });
        since = a.last_seq;
        wait = 500;
        if (a.results.length) fn(a.results);
      } catch (e) {
        if (signal.aborted || e instanceof ApiError && e.status < 500 && e.status !== 429) return;
        await new Promise(r => setTimeout(r, wait));
        wait = Math.min(2 * wait, 10_000);
      }
    }
  }
}
