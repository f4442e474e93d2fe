// JSON that strangers send: how much it makes of how little is bounded before it is read.
import { type Bytes, text } from './encoding.js';
import { badRequest, CouchError } from './errors.js';

const maxValues = 1_000_000; // each takes some ten bytes at least, whatever its length here
const maxDepth = 200;

const quote = 34, backslash = 92;

/** Returns where a string ends that begins after a quote. */
function endOfString(json: Bytes, from: number): number {
  for (let at = json.indexOf(quote, from); at >= 0; at = json.indexOf(quote, at + 1)) {
    let escapes = 0;
    while (json[at - 1 - escapes] === backslash) escapes++;
    if (escapes % 2 === 0) return at;
  }
  return json.length;
}

/** Throws 413 for too many values, or values too deep within others. */
function measure(json: Bytes): void {
  let values = 0, depth = 0;
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case quote: at = endOfString(json, at + 1); break;
      case 0x5b: case 0x7b: depth++; values++; break; // [ {
      case 0x5d: case 0x7d: depth--; break;
      case 0x2c: values++; break;
    }
    if (values > maxValues || depth > maxDepth) throw new CouchError(413, 'too_large', `JSON is limited to ${maxValues} values and ${maxDepth} levels.`);
  }
}

/** Reads JSON. Throws 400, 413. */
export function readJSON(json: Bytes): any {
  measure(json);
  try {
    return JSON.parse(text(json));
  } catch {
    throw badRequest('invalid UTF-8 JSON');
  }
}
