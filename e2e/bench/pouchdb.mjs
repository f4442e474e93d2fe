// PouchDB pulling a database over HTTP into leveldb. usage: node pouchdb.mjs URL DIR BATCH
// Prints {"docs_per_second":…}.
import PouchDB from 'pouchdb'

const [url, dir, batch] = process.argv.slice(2)
const local = new PouchDB(dir)
const start = Date.now()
const result = await local.replicate.from(url, { batch_size: Number(batch) })
console.log(JSON.stringify({ docs_per_second: result.docs_written / ((Date.now() - start) / 1000) }))
await local.close()
