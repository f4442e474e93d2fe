// The versions of a document that several people changed at once, side by side.
import { Badge } from '../../parts/bits.js';
import { Json } from '../../parts/json.js';
import { Busy, ErrorNote, Note } from '../../parts/notes.js';
import type { Database, Doc } from '../../state/couch.js';
import { useAction, useLoaded } from '../../state/load.js';

/** Keeps one version: it becomes, or stays, the winner, and the others are deleted. */
async function keep(db: Database, winner: Doc, others: Doc[], kept: Doc): Promise<void> {
  if (kept._rev !== winner._rev) {
    const { _rev, _conflicts, _attachments, ...content } = kept;
    await db.put({ ...content, _id: winner._id, _rev: winner._rev, ...winner._attachments && { _attachments: winner._attachments } });
  }
  for (const o of others) await db.remove(winner._id, o._rev!);
}

const differs = (a: Doc, b: Doc) => Object.keys({ ...a, ...b }).filter(k => !k.startsWith('_') && JSON.stringify(a[k]) !== JSON.stringify(b[k]));

export function Conflicts({ db, doc, readOnly, onDone }: { db: Database; doc: Doc; readOnly: boolean; onDone: () => void }) {
  const { _conflicts = [] } = doc, action = useAction();
  const others = useLoaded(() => Promise.all(_conflicts.map(rev => db.get(doc._id, { rev }))), [db, doc._rev, _conflicts.join()]);
  if (!others.value) return <><ErrorNote error={others.error} again={others.again} />{others.busy && <Busy />}</>;
  const versions = [doc, ...others.value];
  const choose = async (v: Doc) => { if (await action.run(() => keep(db, doc, others.value!, v))) onDone(); };
  return <section class="stack" aria-labelledby="versions">
    <h2 id="versions" class="hidden">Versions</h2>
    <Note kind="warn"><div>Several people changed this document at once. The first version is shown everywhere until someone decides. The versions differ in <strong>{[...new Set(others.value.flatMap(o => differs(doc, o)))].join(', ') || 'nothing but their history'}</strong>.</div></Note>
    <ErrorNote error={action.error.value} />
    <div class="versions">{versions.map((v, i) => {
      const { _conflicts, _attachments, ...shown } = v;
      return <article class="card stack" key={v._rev} aria-label={`Version ${i + 1}`}>
        <div class="row"><h3>Version {i + 1}</h3>{i === 0 && <Badge kind="good">Shown</Badge>}
          {!readOnly && <button type="button" disabled={action.busy.value} onClick={() => choose(v)}>Keep this one</button>}</div>
        <Json value={shown} label={`Version ${i + 1}`} />
      </article>;
    })}</div>
  </section>;
}
