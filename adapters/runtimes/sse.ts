// Cuts a byte stream into server-sent events, however the network cut it.
import { createParser } from 'eventsource-parser';
import { GatewayError } from '../../src/error.ts';

const MAX_EVENT_CHARS = 16 * 1024 * 1024;
const MAX_DRAINED_BYTES = 64 * 1024;

export interface ServerSentEvent {
  /** The `event:` field; also `error` for a bare `error: …` line, which some servers send for want of an event. */
  event?: string;
  data: string;
  /** The body ended inside this event. */
  cut?: boolean;
}

export interface EventOptions {
  /** Who is blamed for what cannot be read. */
  source: string;
  /** Most characters of one event. */
  maxEventChars?: number;
  /** Data of the event that ends the stream. It is the last one yielded; what follows it is read and dropped. */
  end?: string;
}

/** Throws `upstream_invalid` for an event longer than the limit, and whatever `body` throws. */
export async function* readEvents(
  body: AsyncIterable<Uint8Array>,
  { source, maxEventChars = MAX_EVENT_CHARS, end }: EventOptions,
): AsyncGenerator<ServerSentEvent> {
  const parser = createEvents(maxEventChars, source);
  const decoder = new TextDecoder();
  const bytes = body[Symbol.asyncIterator]();
  let ended = false;
  try {
    while (!ended) {
      const { done, value } = await bytes.next();
      ended = done === true;
      const events = done ? parser.finish(decoder.decode()) : parser.add(decoder.decode(value, { stream: true }));
      for (const event of events) {
        const last = event.data === end;
        if (last && !ended) {
          ended = true;
          void drain(bytes);
        }
        yield event;
        if (last) return;
      }
    }
  } finally {
    // A reader that stopped early must free the connection and stop the runtime.
    if (!ended) await bytes.return?.();
  }
}

/** Reads what is left, so that the connection can carry the next request; a body that goes on and on is cut. */
export async function drain(bytes: AsyncIterator<Uint8Array>): Promise<void> {
  try {
    for (let left = MAX_DRAINED_BYTES; left >= 0;) {
      const { done, value } = await bytes.next();
      if (done) return;
      left -= value.byteLength;
    }
    await bytes.return?.();
  } catch {
    // The answer was complete before; how its connection ends is nobody's business.
  }
}

function createEvents(maxChars: number, source: string) {
  let found: ServerSentEvent[] = [];
  let tooLong = false;
  // The parser gets whole lines only: it throws away the beginning of a line that cannot become a field, and with it
  // the `error: …` lines that are wanted here.
  let partial = '';
  const parser = createParser({
    maxBufferSize: maxChars,
    onEvent: ({ event, data }) => found.push(event === undefined ? { data } : { event, data }),
    onError: ({ type, field, value }) => {
      if (type === 'max-buffer-size-exceeded') tooLong = true;
      else if (field === 'error' && value) found.push({ event: 'error', data: value });
    },
  });

  function feed(text: string): ServerSentEvent[] {
    if (text !== '') parser.feed(text);
    if (tooLong || partial.length > maxChars) {
      throw new GatewayError('upstream_invalid', `${source} sent an event of more than ${maxChars} characters.`, {
        source,
        retry: false,
      });
    }
    const events = found;
    found = [];
    return events;
  }

  return {
    add(text: string): ServerSentEvent[] {
      const lines = text.lastIndexOf('\n') + 1;
      const whole = lines === 0 ? '' : partial + text.slice(0, lines);
      partial = lines === 0 ? partial + text : text.slice(lines);
      return feed(whole);
    },
    /** The rest of the text. Events that only the end completes are marked as cut. */
    finish(text: string): ServerSentEvent[] {
      const rest = partial + text;
      partial = '';
      return feed(`${rest}\n\n`).map((event) => ({ ...event, cut: true }));
    },
  };
}
