// Replications between a database in this browser and one elsewhere.
import { effect, signal } from '@preact/signals';
import { running } from './counts.js';
import type { Database } from './couch.js';
import { keep, ofTab } from './keep.js';
import { loadPouch, local } from './pouch.js';
import { openPlace, type Place, placeName } from './place.js';

export type Direction = 'pull' | 'push' | 'both';
export type State = 'running' | 'waiting' | 'done' | 'cancelled' | 'failed';
export interface Progress { read: number; written: number; failures: number; pending?: number; bytes: number }

export class Job {
  readonly state = signal<State>('running');
  readonly progress = signal<Progress>({ read: 0, written: 0, failures: 0, bytes: 0 });
  readonly error = signal<unknown>();
  readonly rate = signal(0); // documents a second, lately
  readonly started = Date.now();
  ended?: number;
  readonly name: string;
  #sync?: any;
  #bytes = 0;
  #sides = new Map<string, { docs_read: number; docs_written: number; doc_write_failures: number; pending?: number }>();
  #timer?: ReturnType<typeof setInterval>;

  constructor(readonly id: number, readonly local: string, readonly remote: Place, readonly direction: Direction, readonly live: boolean) {
    this.name = placeName(remote);
  }

  async start(): Promise<void> {
    let last = 0;
    this.#timer = setInterval(() => {
      const n = this.progress.value.read;
      this.rate.value = n - last;
      last = n;
      this.#tell();
    }, 1000);
    try {
      const [PouchDB, mine, there] = await Promise.all([loadPouch(), local(this.local), openPlace(this.remote)]);
      if (this.state.value === 'cancelled') return;
      const remote = new PouchDB(absolute(there.url), { fetch: this.#counted(there), skip_setup: true });
      const options = { live: this.live, retry: this.live, batch_size: 500, back_off_function: (ms: number) => Math.min(Math.max(500, 2 * ms), 5000) };
      this.#sync = this.direction === 'both' ? mine.sync(remote, options) : this.direction === 'pull' ? mine.replicate.from(remote, options) : mine.replicate.to(remote, options);
      const side = (d: string, info: any) => {
        this.#sides.set(d, info);
        this.#tell();
      };
      this.#sync.on('change', (e: any) => e.direction ? side(e.direction, e.change) : side('', e));
      this.#sync.on('denied', (e: any) => this.error.value = e.doc ?? e);
      this.#sync.on('paused', (e: any) => {
        if (this.state.value !== 'running') return;
        if (e) this.error.value = e;
        if (this.live) this.state.value = 'waiting';
      });
      this.#sync.on('active', () => {
        if (this.state.value === 'waiting') [this.state.value, this.error.value] = ['running', undefined];
      });
      const result = await this.#sync;
      if (result.push || result.pull) for (const d of ['push', 'pull']) this.#sides.set(d, result[d]);
      else this.#sides.set('', result);
      this.#sides.forEach(s => s.pending = 0);
      this.#finish((this.state.value as State) === 'cancelled' ? 'cancelled' : 'done');
    } catch (e) {
      this.error.value = e;
      this.#finish('failed');
    }
  }

  #finish(state: 'done' | 'failed' | 'cancelled'): void {
    clearInterval(this.#timer);
    this.state.value = state;
    this.ended = Date.now();
    this.rate.value = 0;
    this.#tell();
  }

  #tell(): void {
    const sum = { read: 0, written: 0, failures: 0, pending: undefined as number | undefined, bytes: this.#bytes };
    for (const s of this.#sides.values()) {
      sum.read += s.docs_read;
      sum.written += s.docs_written;
      sum.failures += s.doc_write_failures;
      if (s.pending !== undefined) sum.pending = (sum.pending ?? 0) + s.pending;
    }
    this.progress.value = sum;
  }

  /** fetch that counts the bytes of bodies. */
  #counted(db: Database) {
    return async (url: string, init?: RequestInit) => {
      if (typeof init?.body === 'string') this.#bytes += init.body.length;
      const r = await db.fetch(url, init);
      if (!r.body) return r;
      const count = new TransformStream<Uint8Array, Uint8Array>({ transform: (chunk, to) => {
        this.#bytes += chunk.length;
        to.enqueue(chunk);
      } });
      const counted = new Response(r.body.pipeThrough(count), { status: r.status, headers: r.headers });
      return counted;
    };
  }

  cancel(): void {
    if (this.ended) return;
    this.state.value = 'cancelled';
    if (this.#sync) this.#sync.cancel();
    this.#finish('cancelled');
  }

  get over(): boolean {
    return !['running', 'waiting'].includes(this.state.value);
  }
}

const absolute = (url: string) => new URL(url, location.origin).href;

export const jobs = signal<Job[]>([]);
effect(() => {
  const going = jobs.value.filter(j => !j.over);
  running.value = going.length;
  keep('jobs', going.map(j => [j.local, j.remote, j.direction, j.live]), ofTab);
});
let ids = 0;

export function replicate(localName: string, remote: Place, direction: Direction, live: boolean): Job {
  const job = new Job(++ids, localName, remote, direction, live);
  jobs.value = [job, ...jobs.value];
  void job.start();
  return job;
}

/** Goes on with the replications of this tab after the page was loaded anew: their checkpoints are in the databases. */
export function resume(all: [string, Place, Direction, boolean][]): void {
  for (const job of all) replicate(...job);
}

export const forget = (job: Job) => void (jobs.value = jobs.value.filter(j => j !== job));
