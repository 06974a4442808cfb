// An answer's bytes → its pieces, whether the server streamed them or not, and a failure for every end that is none.
import type { Reply, Upstream } from '../../../src/upstream.ts';
import { readEvents } from '../sse.ts';
import { notOpenAI, toLateFailure, toObject, truncated } from './failure.ts';
import type { WireAnswer } from './wire.ts';

const DONE = '[DONE]';

export type BodyKind = 'events' | 'json' | 'page' | 'unknown';

/** Throws for failures in any shape, `upstream_truncated` for a stream that ends without having said that it does. */
export async function* readAnswer(reply: Reply, upstream: Upstream, maxChars: number): AsyncGenerator<WireAnswer> {
  const kind = toKind(reply.header('content-type'));
  if (kind === 'json') {
    yield toWhole(await reply.text(), upstream);
    return;
  }
  if (kind === 'page') throw await toMistake(reply, upstream);
  let ended = false;
  let begun = false;
  for await (const { event, data, cut } of readEvents(reply.body, {
    source: upstream.name,
    maxEventChars: maxChars,
    end: DONE,
  })) {
    begun = true;
    if (data === DONE) ended = true;
    else if (event === 'error') throw toLateFailure(data, upstream);
    else if (data.trim() !== '') {
      if (cut && !isJson(data)) throw truncated(upstream.name);
      const piece = toObject<WireAnswer>(data, upstream);
      ended ||= piece.choices?.some((choice) => choice.finish_reason) === true;
      yield piece;
    }
  }
  if (!begun && kind === 'unknown') throw notOpenAI(upstream.name);
  if (!ended) throw truncated(upstream.name);
}

/** A whole answer, as some servers send it to those who asked for a stream. */
export function toWhole(text: string, upstream: Upstream): WireAnswer {
  const whole = toObject<WireAnswer>(text, upstream);
  if (!Array.isArray(whole.choices) || whole.choices.length === 0) throw notOpenAI(upstream.name);
  return whole;
}

export function toKind(contentType: string = ''): BodyKind {
  if (/^text\/event-stream/i.test(contentType)) return 'events';
  if (/^application\/([\w.+-]+\+)?json\b/i.test(contentType)) return 'json';
  return /^text\/html/i.test(contentType) ? 'page' : 'unknown';
}

/** A page under status 200: the address leads to another program. Its text is read so that the connection is free. */
export async function toMistake(reply: Reply, upstream: Upstream) {
  await reply.text();
  return notOpenAI(upstream.name);
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
