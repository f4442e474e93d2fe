// JSON in colours. It is text: nothing in it becomes HTML.
import type { ComponentChildren } from 'preact';

const token = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const most = 200_000; // characters that are coloured

export function Json({ value, label = 'JSON' }: { value: unknown; label?: string }) {
  const text = JSON.stringify(value, null, 2) ?? '', parts: ComponentChildren[] = [];
  let at = 0;
  if (text.length < most) {
    for (const m of text.matchAll(token)) {
      parts.push(text.slice(at, m.index));
      at = m.index + m[0].length;
      if (m[2]) parts.push(<span class="j-key">{m[1]}</span>, m[2]);
      else parts.push(<span class={m[1] ? 'j-str' : /^[-\d]/.test(m[0]) ? 'j-num' : 'j-word'}>{m[0]}</span>);
    }
  }
  return <pre class="json" tabIndex={0} aria-label={label}>{parts}{text.slice(at)}</pre>;
}
