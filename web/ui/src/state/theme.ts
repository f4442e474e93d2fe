// Light, dark, or as the system has it.
import { effect, signal } from '@preact/signals';
import { kept, keep } from './keep.js';

export type Theme = 'auto' | 'light' | 'dark';
export const theme = signal<Theme>(kept('theme', 'auto'));

effect(() => {
  document.documentElement.dataset.theme = theme.value;
  keep('theme', theme.value);
});

export const nextTheme = (): Theme => ({ auto: 'light', light: 'dark', dark: 'auto' } as const)[theme.value];
