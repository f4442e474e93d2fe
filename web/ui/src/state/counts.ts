// How much runs in this page, for the navigation: what runs is counted where it is
// started, so that the navigation need not load it.
import { signal } from '@preact/signals';

export const running = signal(0); // replications
export const sharing = signal(0); // databases that are shared
export interface Ask { me: string; peer: string; share: string; answer(yes: boolean): void }
/** Peers who wait to be let in. */
export const asks = signal<Ask[]>([]);
