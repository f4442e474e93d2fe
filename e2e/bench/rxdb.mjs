// RxDB's WebRTC replication between two Node processes, memory storage on both
// ends. usage: node rxdb.mjs FILE.ndjson DOCS BATCH
// Prints {"docs_per_second":…} when the second process has all documents.
import { fork } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { createRxDatabase } from 'rxdb/plugins/core'
import { getRxStorageMemory } from 'rxdb/plugins/storage-memory'
import { getConnectionHandlerSimplePeer, replicateWebRTC, startSignalingServerSimplePeer } from 'rxdb/plugins/replication-webrtc'
import wrtc from '@roamhq/wrtc'
import { WebSocket } from 'ws'

const [file, docs, batch, port, role] = process.argv.slice(2)

const schema = {
  version: 0, primaryKey: 'id', type: 'object',
  properties: { id: { type: 'string', maxLength: 64 }, data: { type: 'object', additionalProperties: true } },
  required: ['id'],
}

async function collection(name) {
  const db = await createRxDatabase({ name, storage: getRxStorageMemory(), multiInstance: false })
  return (await db.addCollections({ records: { schema } })).records
}

function replicate(records, port) {
  return replicateWebRTC({
    collection: records, topic: 'loveseat-bench',
    connectionHandlerCreator: getConnectionHandlerSimplePeer({ signalingServerUrl: `ws://127.0.0.1:${port}/`, wrtc, webSocketConstructor: WebSocket }),
    pull: { batchSize: Number(batch) }, push: { batchSize: Number(batch) },
  })
}

async function sharer() {
  const records = await collection('a')
  let rows = []
  for await (const line of createInterface({ input: createReadStream(file) })) {
    const { _id, ...data } = JSON.parse(line)
    rows.push({ id: _id, data })
    if (rows.length === 2000) { await records.bulkInsert(rows); rows = [] }
  }
  if (rows.length) await records.bulkInsert(rows)
  await replicate(records, port)
  process.send('ready')
}

async function puller() {
  await startSignalingServerSimplePeer({ port: Number(port) })
  const child = fork(process.argv[1], [file, docs, batch, port, 'sharer'])
  child.on('exit', (code) => process.exit(code ?? 1))
  await new Promise((ready) => child.once('message', ready))
  const records = await collection('b')
  const start = Date.now()
  let have = 0
  const all = new Promise((done) => records.eventBulks$.subscribe((bulk) => { have += bulk.events.length; if (have >= Number(docs)) done() }))
  await replicate(records, port)
  const late = setTimeout(() => { console.error(`only ${have} of ${docs} documents after 5 minutes`); child.kill(); process.exit(1) }, 300_000)
  await all
  clearTimeout(late)
  console.log(JSON.stringify({ docs_per_second: Number(docs) / ((Date.now() - start) / 1000) }))
  child.removeAllListeners('exit')
  child.kill()
  process.exit(0)
}

await (role === 'sharer' ? sharer() : puller())
