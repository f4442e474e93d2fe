// What is used of PouchDB, so that no package of types is needed.
import type { Doc } from './documents.js';

/** A row of PouchDB's changes. */
export interface PouchChange { seq: unknown; id: string; changes: { rev: string }[]; deleted?: boolean; doc?: Doc }

/** The running changes of a PouchDB: a promise and an event emitter. */
export interface PouchChanges extends Promise<{ results: PouchChange[]; last_seq: unknown; pending?: number }> {
  on(event: 'change' | 'error' | 'complete', fn: (v: any) => void): this;
  cancel(): void;
}

/** A PouchDB database. */
export interface Pouch {
  name: string;
  adapter?: string;
  id(): Promise<string>;
  info(): Promise<{ doc_count: number; update_seq: unknown }>;
  get(id: string, options?: object): Promise<any>;
  put(doc: Doc, options?: object): Promise<{ ok: boolean; id: string; rev: string }>;
  post(doc: object): Promise<{ ok: boolean; id: string; rev: string }>;
  remove(id: string, rev: string): Promise<{ ok: boolean; id: string; rev: string }>;
  bulkDocs(docs: Doc[], options?: object): Promise<any[]>;
  bulkGet(options: object): Promise<{ results: unknown[] }>;
  allDocs(options?: object): Promise<object>;
  revsDiff(diff: object): Promise<object>;
  changes(options?: object): PouchChanges;
  getAttachment(id: string, name: string, options?: object): Promise<Blob | Uint8Array>;
  putAttachment(id: string, name: string, rev: string | undefined, data: unknown, type: string): Promise<object>;
  removeAttachment(id: string, name: string, rev: string): Promise<object>;
  fetch?(path: string, init?: RequestInit): Promise<Response>;
  find?(query: object): Promise<object>;
  explain?(query: object): Promise<object>;
  getIndexes?(): Promise<object>;
}
