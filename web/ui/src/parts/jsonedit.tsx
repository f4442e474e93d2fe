// A text field for JSON, which says where it is wrong.
import { useSignal } from '@preact/signals';
import { useId } from 'preact/hooks';

/** Reads an object, or says what is wrong, with the line if that is known. */
export function parseObject(text: string): { value?: Record<string, unknown>; error?: string } {
  try {
    const value: unknown = JSON.parse(text);
    return value && typeof value === 'object' && !Array.isArray(value) ? { value: value as Record<string, unknown> } : { error: 'A JSON object is wanted: { … }' };
  } catch (e) {
    const m = (e as Error).message, position = /position (\d+)/.exec(m);
    return { error: position && !m.includes('line') ? `Line ${text.slice(0, Number(position[1])).split('\n').length}: ${m}` : m };
  }
}

interface Props { label: string; value: string; onChange: (text: string) => void; onSave?: () => void; rows?: number }

export function JsonEdit({ label, value, onChange, onSave, rows = 16 }: Props) {
  const id = useId(), wrong = useSignal<string | undefined>(undefined);
  const check = (text: string) => wrong.value = parseObject(text).error;
  const keys = (e: KeyboardEvent) => {
    if (onSave && e.key === 's' && (e.ctrlKey || e.metaKey)) {
      e.preventDefault();
      onSave();
    }
  };
  return <div class="field">
    <label for={id}>{label}</label>
    <textarea id={id} class="code" rows={rows} spellcheck={false} value={value} aria-invalid={!!wrong.value} aria-describedby={id + 'e'} onKeyDown={keys}
      onInput={e => { onChange(e.currentTarget.value); check(e.currentTarget.value); }} />
    <p class="hint bad" id={id + 'e'} aria-live="polite">{wrong.value}</p>
  </div>;
}
