// What a screen loads, while it shows something else.
import { type ReadonlySignal, signal, useSignal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';

/** The state of something that is loaded. */
export interface Loaded<T> { value?: T; error?: unknown; busy: boolean; again(): void }

/** Loads something when inputs change, and again on demand; what was loaded before stays while it does. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, inputs: unknown[]): Loaded<T> {
  const state = useSignal<{ value?: T; error?: unknown; busy: boolean }>({ busy: true }), turn = useSignal(0);
  useEffect(() => {
    const over = new AbortController();
    state.value = { value: state.peek().value, busy: true };
    load(over.signal).then(
      value => over.signal.aborted || (state.value = { value, busy: false }),
      error => over.signal.aborted || (state.value = { error, busy: false }));
    return () => over.abort();
  }, [...inputs, turn.value]);
  return { ...state.value, again: () => turn.value++ };
}

/** A time that moves on, for what is told in minutes. */
export function useNow(every = 10_000): number {
  const now = useSignal(Date.now());
  useEffect(() => {
    const t = setInterval(() => now.value = Date.now(), every);
    return () => clearInterval(t);
  }, []);
  return now.value;
}

/** An action under way: what it does, and what went wrong. */
export class Action {
  readonly busy = signal(false);
  readonly error = signal<unknown>();

  /** Runs it unless it is running; true: it succeeded. */
  async run(fn: () => Promise<unknown>): Promise<boolean> {
    if (this.busy.value) return false;
    this.busy.value = true;
    this.error.value = undefined;
    try {
      await fn();
      return true;
    } catch (e) {
      this.error.value = e;
      return false;
    } finally {
      this.busy.value = false;
    }
  }
}

export const useAction = (): Action => useMemo(() => new Action(), []);

export type { ReadonlySignal };
