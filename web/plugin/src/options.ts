// What options may be: an option that is none, or of another kind, would do nothing, and share more than was meant.
import { badRequest } from './errors.js';

export type Kind = 'any' | 'array' | 'boolean' | 'date' | 'function' | 'number' | 'string';

const kindOf = (v: unknown): string => Array.isArray(v) ? 'array' : v instanceof Date ? 'date' : v === null ? 'null' : typeof v;

const instead: Record<string, string> = {
  selector: 'Say what openers see by filter, a function of a document, or docIds.',
  readonly: 'It is spelled readOnly.',
};

/** Throws 400 for options that there are not, and for values of another kind. */
export function checkOptions(o: object, kinds: Record<string, Kind>): void {
  for (const [name, value] of Object.entries(o)) {
    const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
    if (!kind) {
      const there = `The options are ${Object.keys(kinds).join(', ')}.`;
      throw badRequest(`There is no option ${name.slice(0, 100)}. ${Object.hasOwn(kinds, 'filter') && instead[name.toLowerCase()] || there}`);
    }
    if (value !== undefined && kind !== 'any' && kindOf(value) !== kind) throw badRequest(`The option ${name} is ${kind === 'array' ? 'an array' : `a ${kind}`}, not ${kindOf(value)}.`);
  }
}
