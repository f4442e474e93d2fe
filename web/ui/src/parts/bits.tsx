// Small parts that many screens use.
import { useSignal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useId } from 'preact/hooks';
import { Icon, type IconName } from './icon.js';

/** The heading of a screen, with its actions. */
export function Head({ title, sub, back, children }: { title: ComponentChildren; sub?: ComponentChildren; back?: { href: string; name: string }; children?: ComponentChildren }) {
  return <header class="head">
    <div class="grow">
      {back && <a class="back" href={back.href}><Icon name="left" />{back.name}</a>}
      <h1>{title}</h1>
      {sub && <p class="dim">{sub}</p>}
    </div>
    {children && <div class="actions">{children}</div>}
  </header>;
}

export function Badge({ kind = '', children, title }: { kind?: '' | 'good' | 'warn' | 'bad' | 'accent'; children: ComponentChildren; title?: string }) {
  return <span class={`badge ${kind}`} title={title}>{children}</span>;
}

type On = (e: { currentTarget: HTMLInputElement }) => void;
interface Input {
  label: string; hint?: string; value?: string; type?: 'text' | 'password'; name?: string; required?: boolean; disabled?: boolean; placeholder?: string;
  pattern?: string; maxLength?: number; autocomplete?: string; list?: string; onInput?: On; onChange?: On;
}

/** A labelled input; hint explains it. */
export function Field({ label, hint, ...input }: Input) {
  const id = useId();
  return <div class="field">
    <label for={id}>{label}</label>
    <input id={id} aria-describedby={hint && id + 'h'} autocomplete="off" {...input as object} />
    {hint && <p class="hint" id={id + 'h'}>{hint}</p>}
  </div>;
}

export function Check({ label, hint, checked, onChange }: { label: string; hint?: string; checked: boolean; onChange: On }) {
  return <label class="check"><input type="checkbox" checked={checked} onChange={onChange} /><span>{label}{hint && <small>{hint}</small>}</span></label>;
}

export function Select({ label, children, ...select }: { label: string } & JSX.IntrinsicElements['select']) {
  const id = useId();
  return <div class="field"><label for={id}>{label}</label><select id={id} {...select}>{children}</select></div>;
}

/** Copies a text, and says that it did. */
export function Copy({ text, name, icon = false }: { text: string | (() => string | Promise<string>); name: string; icon?: boolean }) {
  const done = useSignal(false);
  const copy = async () => {
    await copyText(typeof text === 'string' ? text : await text());
    done.value = true;
    setTimeout(() => done.value = false, 1500);
  };
  return <button type="button" class={icon ? 'plain' : ''} onClick={copy} aria-label={icon ? name : undefined} title={icon ? name : undefined}>
    <Icon name={done.value ? 'done' : 'copy'} />{!icon && (done.value ? 'Copied' : name)}
    {icon && <span class="hidden" role="status">{done.value ? 'Copied' : ''}</span>}
  </button>;
}

async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed, or no secure page
    const area = Object.assign(document.createElement('textarea'), { value: text, className: 'hidden' });
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
}

/** A line of text to copy. */
export function Line({ label, text }: { label: string; text: string }) {
  return <div class="line"><span class="dim">{label}</span><code>{text}</code><Copy icon name={`Copy ${label}`} text={text} /></div>;
}

/** Tabs over what is shown below. */
export function Tabs<T extends string>({ label, all, value, onChange }: { label: string; all: readonly (readonly [T, string])[]; value: T; onChange: (v: T) => void }) {
  const move = (e: KeyboardEvent) => {
    const d = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!d) return;
    const i = (all.findIndex(([v]) => v === value) + d + all.length) % all.length;
    onChange(all[i]![0]);
    (e.currentTarget as HTMLElement).querySelectorAll('button')[i]!.focus();
  };
  return <div class="tabs" role="tablist" aria-label={label} onKeyDown={move}>
    {all.map(([v, name]) => <button type="button" key={v} role="tab" aria-selected={v === value} tabIndex={v === value ? 0 : -1} onClick={() => onChange(v)}>{name}</button>)}
  </div>;
}

/** A button that asks before it acts. */
export function Sure({ children, ask, icon, onSure, disabled }: { children: string; ask: string; icon?: IconName; onSure: () => void; disabled?: boolean }) {
  const asked = useSignal(false);
  if (!asked.value) return <button type="button" class="danger" disabled={disabled} onClick={() => asked.value = true}>{icon && <Icon name={icon} />}{children}</button>;
  return <span class="sure" role="group" aria-label={ask}>
    <span>{ask}</span>
    <button type="button" class="danger" ref={b => b?.focus()} onClick={() => { asked.value = false; onSure(); }}>{children}</button>
    <button type="button" onClick={() => asked.value = false}>Keep</button>
  </span>;
}

/** Name and value pairs. */
export function Facts({ of }: { of: (readonly [string, ComponentChildren] | false | undefined)[] }) {
  return <dl class="facts">{of.map(f => f && <div key={f[0]}><dt>{f[0]}</dt><dd>{f[1]}</dd></div>)}</dl>;
}
