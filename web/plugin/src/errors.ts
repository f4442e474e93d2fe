/** An error of CouchDB's HTTP API, or one that is told like it. */
export class CouchError extends Error {
  constructor(readonly status: number, override readonly name: string, readonly reason: string) {
    super(reason);
  }

  /** Whether trying again cannot help. */
  get permanent(): boolean {
    return this.status >= 400 && this.status < 500 && this.status !== 408 && this.status !== 429;
  }

  toJSON(): object {
    return { error: this.name, reason: this.reason };
  }
}

export const forbidden = (reason: string) => new CouchError(403, 'forbidden', reason);
export const notFound = (reason: string) => new CouchError(404, 'not_found', reason);
export const badRequest = (reason: string) => new CouchError(400, 'bad_request', reason);
