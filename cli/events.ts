// Server-sent events → the events of a run.
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import type { PreviewEvent, RunEvent } from '../src/event.ts';
import { CommandFailure, exitCodes, toFailure } from './exit.ts';

/** As the events of a run, but what is binary there is base64 here. */
export type AnyEvent =
  | Exclude<RunEvent<unknown, Record<string, unknown>>, PreviewEvent>
  | { type: 'preview'; media_type: string; data: string };

/** Throws the failure that an error event tells, and one of its own when the stream ends before its result. */
export async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<AnyEvent> {
  for await (const { event, data } of readMessages(body)) {
    const payload: unknown = JSON.parse(data);
    if (event === 'error') throw toFailure(200, payload);
    const known = toRunEvent(event, payload);
    if (known) yield known;
    if (event === 'result') return;
  }
  throw new CommandFailure(exitCodes.unavailable, 'The answer ended before it was complete.', {
    code: 'upstream_truncated',
  });
}

/** The messages of an event stream, whatever they are about, until it ends. */
export async function* readMessages(body: AsyncIterable<Uint8Array>): AsyncGenerator<EventSourceMessage> {
  const waiting: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => waiting.push(event) });
  const decoder = new TextDecoder();
  for await (const piece of body) {
    parser.feed(decoder.decode(piece, { stream: true }));
    yield* waiting.splice(0);
  }
}

/** An event that this version does not know is passed over. */
function toRunEvent(type: string | undefined, payload: unknown): AnyEvent | undefined {
  if (type === 'chunk') return { type, chunk: payload };
  if (type === 'result') return { type, result: payload as Record<string, unknown> };
  if (type === 'status' || type === 'progress' || type === 'warning' || type === 'preview') {
    return { ...(payload as object), type } as AnyEvent;
  }
  return undefined;
}
