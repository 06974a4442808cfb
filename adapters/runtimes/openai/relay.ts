// OpenAI requests passed on as they are: the caller's bytes there, the server's bytes back, and only their end is watched.
import type { Relay, RelayReply } from '../../../src/runtime.ts';
import type { Reply, Upstream } from '../../../src/upstream.ts';
import { notOpenAI, toObject, toRefusal } from './failure.ts';
import { readBytes } from './fetch.ts';
import { assertInlineBody } from './pictures.ts';
import { toKind, toMistake, toWhole } from './stream.ts';
import { verifyStream } from './verify.ts';
import type { VerifiedStream } from './verify.ts';
import type { WireAnswer } from './wire.ts';

const HEADERS = { 'content-type': 'application/json' };

export function createRelay(upstream: Upstream, maxBytes: number): Relay {
  return async ({ path, body, stream }, { signal }) => {
    assertInlineBody(body, upstream.name);
    const reply = await upstream.send(path, { body, headers: HEADERS, signal });
    if (reply.status < 200 || reply.status > 299) throw await toRefusal(upstream, reply);
    if (!stream) return relayWhole(reply);
    const kind = toKind(reply.header('content-type'));
    if (kind === 'json') return toEvents(toWhole(await reply.text(), upstream));
    if (kind === 'page') throw await toMistake(reply, upstream);
    const checked = verifyStream(reply.body, upstream, maxBytes);
    // The first bytes are waited for, so that a failure in their place still gets a status of its own.
    const first = await checked.next();
    if (kind === 'unknown' && !isEvents(first)) {
      await checked.return();
      throw notOpenAI(upstream.name);
    }
    return { status: 200, contentType: 'text/event-stream', body: startingWith(first, checked) };
  };

  async function relayWhole(reply: Reply): Promise<RelayReply> {
    const bytes = await readBytes(reply.body, maxBytes, upstream.name);
    const answer = toObject<{ choices?: unknown; data?: unknown }>(new TextDecoder().decode(bytes), upstream);
    if (!Array.isArray(answer.choices) && !Array.isArray(answer.data)) throw notOpenAI(upstream.name);
    return { status: reply.status, contentType: 'application/json', body: once(bytes) };
  }
}

/** Who asked for a stream gets one, of a single piece where the server answered whole. */
function toEvents(whole: WireAnswer): RelayReply {
  const choices = whole.choices!.map(({ message, ...choice }) => {
    if (!message) return choice;
    const tool_calls = message.tool_calls?.map((call, index) => ({ index, ...call }));
    return { ...choice, delta: tool_calls ? { ...message, tool_calls } : message };
  });
  const object = whole.choices!.some(({ message }) => message) ? 'chat.completion.chunk' : 'text_completion';
  const text = `data: ${JSON.stringify({ ...whole, object, choices })}\n\ndata: [DONE]\n\n`;
  return { status: 200, contentType: 'text/event-stream', body: once(new TextEncoder().encode(text)) };
}

/** By hand, as the stream itself: a generator would be one hop more for every piece. */
function startingWith(first: IteratorResult<Uint8Array, void>, rest: VerifiedStream): AsyncIterable<Uint8Array> {
  let pending: IteratorResult<Uint8Array, void> | undefined = first;
  return {
    [Symbol.asyncIterator]: () => ({
      next() {
        const taken = pending;
        if (!taken) return rest.next();
        pending = undefined;
        return Promise.resolve(taken);
      },
      return: () => rest.return(),
    }),
  };
}

/** Where the content type does not tell, the first line does. */
function isEvents({ value }: IteratorResult<Uint8Array, void>): boolean {
  return /^\s*(?:data|event|id|retry|error)?:/.test(new TextDecoder().decode(value?.subarray(0, 64)));
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
