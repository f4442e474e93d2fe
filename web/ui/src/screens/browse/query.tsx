// Mango queries.
import { useSignal } from '@preact/signals';
import { JsonEdit, parseObject } from '../../parts/jsonedit.js';
import { ErrorNote, Note } from '../../parts/notes.js';
import type { Database, Doc } from '../../state/couch.js';
import { many } from '../../state/format.js';
import { useAction } from '../../state/load.js';
import type { Place } from '../../state/place.js';
import { DocTable } from './list.js';

const example = '{\n  "selector": { "_id": { "$gt": null } },\n  "limit": 25\n}';

export function Query({ place, db }: { place: Place; db: Database }) {
  const text = useSignal(example), found = useSignal<{ docs: Doc[]; warning?: string; ms: number }>(), action = useAction();
  const run = () => action.run(async () => {
    const { value, error } = parseObject(text.value);
    if (!value) throw new Error(error);
    const start = performance.now(), a = await db.find({ limit: 100, ...value });
    found.value = { ...a, ms: performance.now() - start };
  });
  return <form class="stack" onSubmit={e => { e.preventDefault(); void run(); }}>
    <JsonEdit label="Mango query" value={text.value} onChange={t => text.value = t} onSave={run} rows={8} />
    <div class="actions"><button class="primary" disabled={action.busy.value}>Run</button>
      <span class="hint">For example <code>{'{"selector":{"amount":{"$gt":2}},"sort":["_id"]}'}</code></span></div>
    <ErrorNote error={action.error.value} />
    {found.value && <><p class="dim" role="status">{many(found.value.docs.length, 'document')} in {Math.round(found.value.ms)} ms</p>
      {found.value.warning && <Note kind="warn">{found.value.warning}</Note>}
      {found.value.docs.length > 0 && <DocTable place={place} label="What was found" rows={found.value.docs.map(doc => ({ id: doc._id, doc }))} />}</>}
  </form>;
}
