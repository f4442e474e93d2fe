// Files that become documents: JSON ones by their content, others as attachments.
import type { Pouch } from './pouch.js';

const batch = 500;

/** Documents in JSON text: an array, CouchDB's {"docs": […]} or {"rows": […]}, one object, or one object a line. */
export function documentsOf(text: string): Record<string, unknown>[] {
  let value: any;
  try {
    value = JSON.parse(text);
  } catch (e) {
    const lines = text.split('\n').filter(l => l.trim());
    if (lines.length < 2) throw new Error(`It is no JSON: ${(e as Error).message}`);
    value = lines.map((l, i) => {
      try { return JSON.parse(l); } catch { throw new Error(`Line ${i + 1} is no JSON.`); }
    });
  }
  const list: any[] = Array.isArray(value) ? value : Array.isArray(value?.docs) ? value.docs : Array.isArray(value?.rows) ? value.rows.map((r: any) => r.doc ?? r.value) : [value];
  if (list.some(d => !d || typeof d !== 'object' || Array.isArray(d))) throw new Error('Documents are JSON objects: { … }');
  return list;
}

/** Writes files into a database; says how many documents were written, and which not. */
export async function importFiles(db: Pouch, files: File[], tell: (done: number) => void): Promise<{ written: number; refused: string[] }> {
  let written = 0;
  const refused: string[] = [];
  for (const f of files) {
    if (!/\.(json|ndjson|jsonl)$/i.test(f.name) && f.type !== 'application/json') {
      const old = await db.get(f.name).catch(() => undefined);
      await db.put({ ...old, _id: f.name, name: f.name, type: f.type, size: f.size, modified: new Date(f.lastModified).toISOString(), _attachments: { [f.name]: { content_type: f.type || 'application/octet-stream', data: f } } });
      tell(++written);
      continue;
    }
    let docs: Record<string, unknown>[];
    try {
      docs = documentsOf(await f.text());
    } catch (e) {
      throw new Error(`${f.name}: ${(e as Error).message}`);
    }
    for (let i = 0; i < docs.length; i += batch) {
      const part = docs.slice(i, i + batch).map(({ _rev, ...d }) => ({ ...d, _id: d._id === undefined ? crypto.randomUUID() : String(d._id) }));
      for (const r of await db.bulkDocs(part)) {
        if (r.error) refused.push(`${r.id ?? '?'}: ${r.reason ?? r.message}`);
        else written++;
      }
      tell(written);
    }
  }
  return { written, refused };
}
