// Documents by id, a page at a time, kept up to date.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { Icon } from '../../parts/icon.js';
import { Busy, Empty, ErrorNote } from '../../parts/notes.js';
import type { Database, Doc, Row } from '../../state/couch.js';
import { count } from '../../state/format.js';
import { useLoaded } from '../../state/load.js';
import { browse, type Place } from '../../state/place.js';
import { go, query } from '../../state/route.js';

const size = 50;

/** A document in one line: its members without those of CouchDB. */
export function gist(doc: Doc | undefined): string {
  const told = Object.entries(doc ?? {}).filter(([k]) => !k.startsWith('_')).slice(0, 12).map(([k, v]) => `${k}: ${typeof v === 'string' ? v : JSON.stringify(v)}`);
  return told.join(' · ').slice(0, 300);
}

export function DocRow({ place, row }: { place: Place; row: Row | { id: string; doc?: Doc } }) {
  const attachments = Object.keys(row.doc?._attachments ?? {}).length;
  return <tr>
    <th scope="row"><a class="cut" href={browse(place, { doc: row.id })}>{row.id}</a></th>
    <td><span class="cut dim">{gist(row.doc)}</span></td>
    <td class="num">{attachments > 0 && <span title={`${attachments} attachments`}><Icon name="file" />{attachments}</span>}</td>
    <td class="num rev dim">{row.doc?._rev?.split('-')[0]}</td>
  </tr>;
}

export function DocTable({ place, rows, label }: { place: Place; rows: (Row | { id: string; doc?: Doc })[]; label: string }) {
  return <div class="table" tabIndex={0} role="region" aria-label={label}>
    <table class="docs"><thead><tr><th scope="col">Id</th><th scope="col">Content</th><th scope="col" class="num">Files</th><th scope="col" class="num rev" title="Generation: how often it was changed">Gen.</th></tr></thead>
      <tbody>{rows.map(r => <DocRow key={r.id} place={place} row={r} />)}</tbody></table>
  </div>;
}

/** Calls fn soon after a database changes, but not more than every half second. */
function useChanges(db: Database, fn: () => void): void {
  useEffect(() => {
    const over = new AbortController();
    let due: ReturnType<typeof setTimeout> | undefined;
    void db.follow('now', over.signal, () => due ??= setTimeout(() => {
      due = undefined;
      fn();
    }, 300));
    return () => {
      over.abort();
      clearTimeout(due);
    };
  }, [db]);
}

export function DocList({ place, db }: { place: Place; db: Database }) {
  const start = query.value.get('start') ?? undefined, prefix = query.value.get('prefix') ?? '', before = useSignal<(string | undefined)[]>([]);
  const list = useLoaded(signal => db.page(start ?? (prefix || undefined), size + 1, signal, prefix ? prefix + '\ufff0' : undefined), [db, start, prefix]);
  useChanges(db, list.again);
  const rows = list.value?.rows.slice(0, size) ?? [], next = list.value?.rows[size]?.id;
  const page = (start: string | undefined) => go(browse(place, { start, prefix }), true);
  return <>
    <input class="search" type="search" aria-label="Ids that begin with" placeholder="Ids that begin with…" value={prefix} onInput={e => { before.value = []; go(browse(place, { prefix: e.currentTarget.value }), true); }} />
    <ErrorNote error={list.error} again={list.again} />
    {!list.value ? list.busy && <Busy /> : !rows.length ? <Empty icon="file" title={prefix ? 'No id begins like this' : 'There are no documents yet'}><p>{prefix ? 'Upper and lower case count.' : 'They appear here as they are written, by anybody.'}</p></Empty>
      : <DocTable place={place} rows={rows} label="Documents" />}
    {(next || before.value.length > 0) && <nav class="pager" aria-label="Pages">
      <button type="button" disabled={!before.value.length} onClick={() => { const b = before.value; before.value = b.slice(0, -1); page(b.at(-1)); }}><Icon name="left" />Previous</button>
      <span class="dim">{count(before.value.length * size + 1)}–{count(before.value.length * size + rows.length)}{!prefix && ` of ${count(list.value?.total ?? 0)}`}</span>
      <button type="button" disabled={!next} onClick={() => { before.value = [...before.value, start]; page(next); }}>Next<Icon name="right" /></button>
    </nav>}
  </>;
}
