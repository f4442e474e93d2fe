// Whether all is set up that peers need.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { Copy, Head } from '../parts/bits.js';
import { Icon } from '../parts/icon.js';
import { advise } from '../state/advice.js';
import { checks, diagnose, type Result } from '../state/check.js';
import { hubOf } from '../state/peers.js';
import { config, hubs } from '../state/session.js';

const marks = { good: ['done', 'In order'], warn: ['warn', 'Worth a look'], bad: ['cross', 'Not in order'] } as const;

function failed(e: unknown): Result {
  const { what, help } = advise(e);
  return { grade: 'bad', told: what, help };
}

export function CheckScreen() {
  const results = useSignal<Record<string, Result>>({}), turn = useSignal(0);
  useEffect(() => {
    let over = false;
    results.value = {};
    for (const c of checks) {
      void c.run(hubs.value[0] ?? 'hub').catch(failed).then(r => over || (results.value = { ...results.value, [c.name]: r }));
    }
    return () => void (over = true);
  }, [turn.value]);
  const done = Object.keys(results.value).length, busy = done < checks.length, bad = Object.values(results.value).filter(r => r.grade === 'bad').length;
  return <>
    <Head title="Set-up check" sub={<span role="status">{busy ? `Checking: ${done} of ${checks.length}` : bad ? `${bad} of ${checks.length} not in order` : 'Peers have what they need'}</span>}>
      <button type="button" disabled={busy} onClick={() => turn.value++}>Check again</button><Copy name="Copy diagnostics" text={() => diagnose(hubs.value.map(hubOf), config.value?.release ?? '')} />
    </Head>
    <ul class="list checks">{checks.map(c => {
      const r = results.value[c.name], [icon, word] = marks[r?.grade ?? 'warn'];
      return <li key={c.name}>{r ? <span class={`mark ${r.grade}`} role="img" aria-label={word}><Icon name={icon} /></span> : <span class="spinner mark" role="img" aria-label="Checking" />}
        <div class="grow"><strong>{c.name}</strong>{r && <p>{r.told}</p>}{r?.help && <p class="hint">{r.help}</p>}</div></li>;
    })}</ul>
  </>;
}
