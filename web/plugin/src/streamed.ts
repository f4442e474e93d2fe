// Answers that are sent while they are made, so that no answer has to fit into memory.
import { utf8 } from './encoding.js';

const part = 32 << 10; // characters that are sent at once
const whole = 256 << 10; // up to so many an answer is made at once, has a length and can be compressed

/** The JSON of a list in parts. */
export async function* listed(head: string, each: AsyncIterable<unknown>, tail: string): AsyncGenerator<string, void> {
  let buf = head, comma = '';
  for await (const v of each) {
    buf += comma + JSON.stringify(v);
    comma = ',\n';
    if (buf.length < part) continue;
    yield buf;
    buf = '';
  }
  yield buf + tail;
}

/** A body of parts that are made as they are taken. end is called once, when no more are. */
export function bodyOf(parts: AsyncGenerator<string, void>, end = () => {}): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await parts.next();
      if (next.value) return controller.enqueue(utf8(next.value));
      end();
      controller.close();
    },
    async cancel() {
      end();
      await parts.return().catch(() => {});
    },
  }, { highWaterMark: 0 });
}

/** Answers with JSON. What goes wrong at its beginning is thrown, later it breaks the connection. */
export async function streamed(parts: AsyncGenerator<string, void>): Promise<Response> {
  let begin = '';
  const headers: Record<string, string> = { 'Content-Type': 'application/json' };
  for (let next; !(next = await parts.next()).done;) {
    begin += next.value;
    if (begin.length < whole) continue;
    const first = begin, all = async function* () {
      yield first;
      yield* parts;
    };
    return new Response(bodyOf(all()), { headers });
  }
  const body = utf8(begin);
  return new Response(body, { headers: { ...headers, 'Content-Length': String(body.length) } });
}
