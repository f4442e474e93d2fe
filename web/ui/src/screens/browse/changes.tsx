// The changes feed as it comes.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { Badge } from '../../parts/bits.js';
import { Empty } from '../../parts/notes.js';
import type { Change, Database } from '../../state/couch.js';
import { browse, type Place } from '../../state/place.js';

const most = 200;

export function Changes({ place, db }: { place: Place; db: Database }) {
  const seen = useSignal<(Change & { at: Date })[]>([]);
  useEffect(() => {
    const over = new AbortController();
    void db.follow('now', over.signal, changes => {
      const at = new Date();
      seen.value = [...changes.map(c => ({ ...c, at })).reverse(), ...seen.value].slice(0, most);
    });
    return () => over.abort();
  }, [db]);
  if (!seen.value.length) return <Empty icon="sync" title="Waiting for changes"><p>Documents that anybody writes from now on are listed here, the latest first.</p></Empty>;
  return <div class="table" tabIndex={0} role="region" aria-label="Changes" aria-live="polite"><table>
    <thead><tr><th scope="col">Time</th><th scope="col">Document</th><th scope="col">Revision</th><th scope="col" class="num">Sequence</th></tr></thead>
    <tbody>{seen.value.map(c => <tr key={`${c.seq}`}><td class="nowrap">{c.at.toLocaleTimeString()}</td>
      <td>{c.deleted ? <><span class="cut">{c.id}</span> <Badge kind="bad">Deleted</Badge></> : <a class="cut" href={browse(place, { doc: c.id })}>{c.id}</a>}</td>
      <td><code class="cut">{c.changes.map(r => r.rev).join(', ')}</code></td><td class="num dim">{String(c.seq).split('-')[0]}</td></tr>)}</tbody>
  </table></div>;
}
