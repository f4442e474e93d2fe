// Snippets to copy.
import { useSignal } from '@preact/signals';
import { Copy, Tabs } from './bits.js';

export function Snippets({ of }: { of: Record<string, string> }) {
  const shown = useSignal(Object.keys(of)[0]!), text = of[shown.value] ?? '';
  return <div class="snippets">
    <div class="row"><Tabs label="Language" all={Object.keys(of).map(k => [k, k] as const)} value={shown.value} onChange={v => shown.value = v} />
      <Copy icon name={`Copy the ${shown.value} snippet`} text={text} /></div>
    <pre tabIndex={0} aria-label={shown.value}>{text}</pre>
  </div>;
}
