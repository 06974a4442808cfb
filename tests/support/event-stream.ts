// A response of server-sent events → its events.
import { createParser, type EventSourceMessage } from 'eventsource-parser';

/** Reads to the end, or until `enough` says so. */
export async function readEventStream(
  response: Response,
  enough: (events: EventSourceMessage[]) => boolean = () => false,
): Promise<EventSourceMessage[]> {
  if (!response.ok || !response.body) throw new Error(`no stream: ${response.status} ${await response.text()}`);
  const events: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => events.push(event) });
  const decoder = new TextDecoder();
  for await (const piece of response.body) {
    parser.feed(decoder.decode(piece, { stream: true }));
    if (enough(events)) break;
  }
  return events;
}
