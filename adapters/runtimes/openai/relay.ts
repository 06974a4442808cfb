// The relay: the caller's bytes go up and the answer's bytes come down untouched, but only a whole answer passes for one.
import { Buffer } from 'node:buffer';
import type { Relay } from '../../../src/runtime.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { notOpenAI, toAnswer, toMidFailure, truncated, type WireAnswer } from './wire.ts';

const DONE = 'data: [DONE]';
const TIGHT_DONE = 'data:[DONE]';
/** Enough of the end to hold the last events; looked at only when a stream ended without [DONE]. */
const TAIL_BYTES = 4096;

export function createRelay(upstream: Upstream): Relay {
  return async ({ path, body, stream }, { signal }) => {
    const reply = await upstream.send(path, { body, headers: { 'content-type': 'application/json' }, signal });
    if (reply.status < 200 || reply.status > 299) throw upstream.failure(reply.status, await reply.text());
    const contentType = reply.header('content-type') ?? '';
    if (stream && contentType.includes('text/event-stream')) {
      return { status: 200, contentType, body: verified(reply.body, upstream.name) };
    }
    const text = await reply.text();
    const answer = toAnswer<WireAnswer & { data?: unknown }>(text, upstream);
    if (!answer.choices && !answer.data) throw notOpenAI(upstream.name);
    const bytes = new TextEncoder().encode(stream ? toEvents(answer) : text);
    return { status: 200, contentType: stream ? 'text/event-stream' : 'application/json', body: once(bytes) };
  };

  /** Passes every chunk on as it is. One [DONE] ends the answer, whatever follows it; no [DONE] needs a finish_reason. */
  async function* verified(body: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
    let tail = Buffer.alloc(0);
    for await (const bytes of body) {
      const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const end = findEnd(tail, chunk);
      if (end !== undefined) {
        yield end < chunk.length ? bytes.subarray(0, Math.max(end, 0)) : bytes;
        yield NEWLINES;
        return;
      }
      yield bytes;
      tail =
        chunk.length >= TAIL_BYTES
          ? chunk.subarray(-TAIL_BYTES)
          : Buffer.concat([tail.subarray(chunk.length - TAIL_BYTES), chunk]);
    }
    const said = tail.toString('latin1');
    if (/(^|\n)data: ?\{"error"/.test(said)) return;
    if (!/"finish_reason"\s*:\s*"/.test(said)) throw truncated(name);
    yield new TextEncoder().encode(`${said.endsWith('\n\n') ? '' : '\n\n'}${DONE}\n\n`);
  }

  /** A server that does not stream answers the whole at once; a reader who asked for events gets them. */
  function toEvents(answer: WireAnswer): string {
    if (answer.error) throw toMidFailure(JSON.stringify(answer), upstream);
    const { choices = [], usage, ...head } = answer as WireAnswer & Record<string, unknown>;
    const deltas = choices.map((choice, index) => ({
      index,
      delta: choice.message,
      text: choice.text,
      finish_reason: choice.finish_reason ?? 'stop',
    }));
    const event = (value: object) =>
      `data: ${JSON.stringify({ ...head, object: 'chat.completion.chunk', ...value })}\n\n`;
    return `${event({ choices: deltas })}${usage ? event({ choices: [], usage }) : ''}${DONE}\n\n`;
  }
}

const NEWLINES = new Uint8Array([10, 10]);

/** Where in `chunk` the line `data: [DONE]` ends, if it does; the line may have begun in what came before. */
function findEnd(before: Buffer, chunk: Buffer): number | undefined {
  if (!chunk.includes(93)) return undefined;
  for (const line of [DONE, TIGHT_DONE]) {
    for (let at = chunk.indexOf(line); at >= 0; at = chunk.indexOf(line, at + 1)) {
      if (
        at === 0
          ? before.length === 0 || before.at(-1) === 10 || before.at(-1) === 13
          : chunk[at - 1] === 10 || chunk[at - 1] === 13
      )
        return at + line.length;
    }
    const overlap = before.subarray(-line.length);
    const joined = Buffer.concat([overlap, chunk.subarray(0, line.length)]);
    const at = joined.indexOf(line);
    const begins = before.length - overlap.length + at;
    if (at >= 0 && at < overlap.length && (begins === 0 || before[begins - 1] === 10 || before[begins - 1] === 13))
      return at + line.length - overlap.length;
  }
  return undefined;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
