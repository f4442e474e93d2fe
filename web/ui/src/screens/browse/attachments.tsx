// A document's attachments. What is previewed is a picture, sound, film or plain text and nothing
// else: HTML, SVG and PDF could run code, and are only downloaded.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { Sure } from '../../parts/bits.js';
import { Icon } from '../../parts/icon.js';
import { Busy, ErrorNote } from '../../parts/notes.js';
import type { Database, Doc, Stub } from '../../state/couch.js';
import { bytes } from '../../state/format.js';
import { useAction, useLoaded } from '../../state/load.js';

type Kind = 'image' | 'audio' | 'video' | 'text';
const maxPreview = 20e6, maxText = 200_000;

/** How an attachment may be shown; undefined: not at all. */
export function previewOf(type: string): Kind | undefined {
  const t = type.split(';')[0]!.trim().toLowerCase();
  if (/^image\/(png|jpeg|gif|webp|avif|bmp)$/.test(t)) return 'image';
  if (/^audio\/(mpeg|ogg|wav|webm|mp4|aac|flac)$/.test(t)) return 'audio';
  if (/^video\/(mp4|webm|ogg)$/.test(t)) return 'video';
  if (t === 'application/json' || /^text\/(plain|csv|markdown)$/.test(t)) return 'text';
  return undefined;
}

/** Its type without parameters, and none that a browser would run. */
const safeType = (type: string) => previewOf(type) ? type.split(';')[0]!.trim().toLowerCase() : 'application/octet-stream';

function Preview({ db, doc, name, stub }: { db: Database; doc: Doc; name: string; stub: Stub }) {
  const kind = previewOf(stub.content_type)!;
  const got = useLoaded(async () => {
    const blob = await db.attachment(doc._id, name, doc._rev);
    return kind === 'text' ? { text: (await blob.text()).slice(0, maxText) } : { url: URL.createObjectURL(new Blob([blob], { type: safeType(stub.content_type) })) };
  }, [db, stub.digest]);
  const url = got.value?.url;
  useEffect(() => () => { if (url) URL.revokeObjectURL(url); }, [url]);
  if (!got.value) return <>{got.busy && <Busy />}<ErrorNote error={got.error} again={got.again} /></>;
  if (kind === 'text') return <pre class="preview" tabIndex={0} aria-label={name}>{got.value.text}</pre>;
  if (kind === 'image') return <img class="preview" src={url} alt={name} />;
  return kind === 'audio' ? <audio class="preview" controls src={url} aria-label={name} /> : <video class="preview" controls src={url} aria-label={name} />;
}

/** Saves an attachment as a file. */
async function download(db: Database, doc: Doc, name: string): Promise<void> {
  const url = URL.createObjectURL(new Blob([await db.attachment(doc._id, name, doc._rev)], { type: 'application/octet-stream' }));
  Object.assign(document.createElement('a'), { href: url, download: name.split('/').pop() || 'attachment' }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export function Attachments({ db, doc, readOnly, onDone }: { db: Database; doc: Doc; readOnly: boolean; onDone: () => void }) {
  const all = Object.entries(doc._attachments ?? {}), action = useAction(), shown = useSignal<string>(all.find(([, s]) => previewOf(s.content_type) === 'image' && (s.length ?? 0) < maxPreview)?.[0] ?? '');
  const after = async (fn: () => Promise<unknown>) => { if (await action.run(fn)) onDone(); };
  const add = (files: File[]) => after(async () => {
    let rev = doc._rev;
    for (const f of files) rev = (await db.putAttachment(doc._id, f.name, rev, f)).rev;
  });
  if (readOnly && !all.length) return null;
  return <section class="stack" aria-labelledby="files">
    <div class="row"><h2 id="files">Attachments</h2>
      {!readOnly && <label class="button"><Icon name="plus" />Add files<input class="hidden" type="file" multiple disabled={action.busy.value} onChange={e => { void add([...e.currentTarget.files ?? []]); e.currentTarget.value = ''; }} /></label>}</div>
    <ErrorNote error={action.error.value} />
    {action.busy.value && <Busy what="Writing" />}
    {!all.length && <p class="dim">None. Add pictures or other files to keep them with the document.</p>}
    <ul class="files">{all.map(([name, stub]) => <li key={name} class="card stack">
      <div class="row"><Icon name="file" /><span class="grow wide cut"><strong>{name}</strong> <small class="dim">{stub.content_type} · {bytes(stub.length ?? 0)}</small></span>
        {previewOf(stub.content_type) && (stub.length ?? 0) < maxPreview && <button type="button" aria-expanded={shown.value === name} onClick={() => shown.value = shown.value === name ? '' : name}>{shown.value === name ? 'Hide' : 'Preview'}</button>}
        <button type="button" onClick={() => action.run(() => download(db, doc, name))}>Download</button>
        {!readOnly && <Sure ask="Remove it?" onSure={() => after(() => db.removeAttachment(doc._id, name, doc._rev!))}>Remove</Sure>}</div>
      {shown.value === name && <Preview db={db} doc={doc} name={name} stub={stub} />}
    </li>)}</ul>
  </section>;
}
