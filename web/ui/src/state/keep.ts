// What this browser remembers of the page, where it lets it.

/** What was kept under a name. */
export function kept<T>(name: string, otherwise: T, storage: () => Storage = () => localStorage): T {
  try {
    const v = storage().getItem('loveseat.' + name);
    return v === null ? otherwise : JSON.parse(v) as T;
  } catch {
    return otherwise;
  }
}

/** Storage that a reload of the tab survives, but not its end. */
export const ofTab = () => sessionStorage;

// What ends because the page goes away is to be there again when it is back.
let leaving = false;
addEventListener('pagehide', () => leaving = true);
addEventListener('pageshow', () => leaving = false);

/** Keeps a value. */
export function keep(name: string, value: unknown, storage: () => Storage = () => localStorage): void {
  if (leaving) return;
  try {
    storage().setItem('loveseat.' + name, JSON.stringify(value));
  } catch { /* not here, then */ }
}
