// Screens that are loaded when they are first shown.
import { signal } from '@preact/signals';
import type { ComponentType } from 'preact';
import { Busy, ErrorNote } from '../parts/notes.js';

export function later(load: () => Promise<ComponentType>): ComponentType {
  const got = signal<ComponentType>(), error = signal<unknown>();
  const start = () => {
    error.value = undefined;
    load().then(c => got.value = c, e => error.value = e);
  };
  let started = false;
  return function Later() {
    if (!started) {
      started = true;
      start();
    }
    const Screen = got.value;
    if (Screen) return <Screen />;
    return error.value ? <ErrorNote error={new Error('This part of the page could not be loaded. Reload the page.')} again={start} /> : <Busy />;
  };
}
