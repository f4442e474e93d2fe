// A place to drop files on, which also is a button that asks for them.
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useRef } from 'preact/hooks';
import { Icon } from './icon.js';

export function Drop({ onFiles, disabled = false, children }: { onFiles: (files: File[]) => void; disabled?: boolean; children: ComponentChildren }) {
  const over = useSignal(false), input = useRef<HTMLInputElement>(null);
  const drag = (e: DragEvent) => {
    e.preventDefault();
    over.value = e.type === 'dragover' && !disabled;
    if (e.type === 'drop' && !disabled && e.dataTransfer?.files.length) onFiles([...e.dataTransfer.files]);
  };
  return <div class={over.value ? 'drop over' : 'drop'} onDragOver={drag} onDragLeave={drag} onDrop={drag}>
    <Icon name="file" /><p>{children}</p>
    <button type="button" disabled={disabled} onClick={() => input.current!.click()}>Choose files</button>
    <input ref={input} class="hidden" tabIndex={-1} aria-label="Files to import" type="file" multiple disabled={disabled}
      onChange={e => { onFiles([...e.currentTarget.files ?? []]); e.currentTarget.value = ''; }} />
  </div>;
}
