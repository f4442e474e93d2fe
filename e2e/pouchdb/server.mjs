// A CouchDB-compatible server that is none of ours: express-pouchdb over
// databases in memory, on a free port, until SIGINT.
import express from 'express';
import expressPouchDB from 'express-pouchdb';
import PouchDB from 'pouchdb';
import memory from 'pouchdb-adapter-memory';
import {tmpdir} from 'node:os';
import {mkdtempSync, rmSync} from 'node:fs';
import {join} from 'node:path';

const dir = mkdtempSync(join(tmpdir(), 'loveseat-foreign-'));
PouchDB.plugin(memory);
const app = express();
app.use(expressPouchDB(PouchDB.defaults({adapter: 'memory'}), {
  mode: 'fullCouchDB',
  inMemoryConfig: true,
  logPath: join(dir, 'log.txt'),
  overrideMode: {exclude: ['routes/fauxton']},
}));
const server = app.listen(0, '127.0.0.1', () =>
  console.log(JSON.stringify({event: 'listening', url: `http://127.0.0.1:${server.address().port}`})));
process.on('SIGINT', () => {
  rmSync(dir, {recursive: true, force: true});
  process.exit(0);
});
