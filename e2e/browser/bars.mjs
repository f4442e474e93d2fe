// Speed in a real browser, beside what there is without Loveseat, in one run: PouchDB pulling through a share and over
// HTTP from the hub, and how long a connection takes. `make bench` runs it; it ends with status 1 below a bar.
import { World, browsers } from './world.mjs';

const count = 10_000, rounds = 3, connects = 15;
const bars = { ratio: 0.85, connect: 150 };
const median = a => [...a].sort((x, y) => x - y)[a.length >> 1];

const w = await World.open();
let failed = false;
try {
  const { url: hub } = await w.hub();
  const docs = Array.from({ length: count }, (_, i) => ({ _id: `doc${String(i).padStart(6, '0')}`, n: i, text: 'lorem ipsum dolor sit amet '.repeat(37) }));
  await w.import('go/pull', docs);
  await w.loveseat(['sync', w.path('go/pull'), hub.replace(/hub$/, 'pull'), '--json']);
  const share = await w.share(hub, 'go/pull', '--name', 'pull');
  for (const kind of browsers) {
    const page = await w.page('/', kind), times = { share: [], http: [] };
    for (let i = 0; i < rounds; i++) {
      for (const from of ['http', 'share']) {
        times[from].push(await page.evaluate(async ([hub, id, from]) => {
          await new PouchDB(hub).getSharedDatabases();
          const local = new PouchDB('pulled'), began = performance.now();
          const { docs_written } = await local.replicate.from(new PouchDB(from === 'http' ? hub.replace(/hub$/, 'pull') : `loveseat://${id}`), { batch_size: 500 });
          const took = performance.now() - began;
          await local.destroy();
          if (docs_written !== 10_000) throw new Error(`${docs_written} documents`);
          return took;
        }, [hub, share.id, from]));
      }
    }
    const connect = await page.evaluate(async ([hub, id, connects]) => {
      const times = [];
      for (let i = 0; i < connects; i++) {
        const peer = await loveseat.Peer.join({ hub, identity: await loveseat.Identity.create() }), began = performance.now();
        const r = await peer.open(id);
        await (await r.fetch(r.url)).json();
        times.push(performance.now() - began);
        await peer.close();
      }
      return times;
    }, [hub, share.id, connects]);
    const http = median(times.http), through = median(times.share), ratio = http / through, p50 = median(connect);
    failed ||= ratio < bars.ratio || p50 > bars.connect;
    const rate = ms => `${Math.round(count / ms * 1000).toLocaleString('en')}/s`;
    console.log(`${kind}: PouchDB pulls ${count.toLocaleString('en')} documents of 1 KB from the hub over HTTP ${rate(http)}, through a share ${rate(through)}: ${ratio.toFixed(2)} (bar ${bars.ratio})`);
    console.log(`${kind}: open to first answer p50 ${p50.toFixed(0)} ms of ${connects} (bar ${bars.connect} ms)`);
    await page.end();
  }
} finally {
  await w.close();
}
process.exit(failed ? 1 : 0);
