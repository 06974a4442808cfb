// A WebSocket's conversation: JSON messages in, events out.
import { z } from 'zod';
import { GatewayError, toGatewayError } from '../error.ts';
import { closeCodes, createListener, type Listener } from './listener.ts';
import { memoize } from './notice.ts';
import type { Realtime } from './realtime.ts';

/** What a host gives a session to speak with. No function throws. */
export interface SessionSocket {
  send(text: string): unknown;
  close(code: number, reason: string): void;
  /** Bytes that wait to be sent. */
  buffered(): number;
}

/** What a host plugs into a WebSocket that it accepted. `open` is called first, `closed` last. */
export interface SocketSession {
  open(socket: SessionSocket): void;
  message(text: string): void;
  closed(): void;
}

/** Bytes of the largest message that hosts let through, and that a session reads. */
export const MAX_MESSAGE = 64 * 1024;
/** Messages that made no sense; a client that sends more of them is not one. */
const MAX_JUNK = 10;

const id = z.string().min(1).max(128);
const messages = z.discriminatedUnion('type', [
  z.object({ type: z.literal('subscribe'), job: id.optional(), after: id.optional() }),
  z.object({ type: z.literal('unsubscribe'), job: id.optional() }),
  z.object({ type: z.literal('ping') }),
]);

/** Hears everything of its caller, or `job` where one is named, from `after` on. */
export function createSession(
  realtime: Realtime,
  options: { caller: string; job?: string | undefined; after?: string | undefined },
): SocketSession {
  let socket: SessionSocket | undefined;
  let listener: Listener | undefined;
  let junk = 0;

  const say = (type: string, data: unknown) => socket?.send(JSON.stringify({ type, data }));

  function fail(thrown: unknown): void {
    const { code, message } = toGatewayError(thrown);
    say('error', { code, message });
  }

  async function subscribe({ job, after }: { job?: string | undefined; after?: string | undefined }): Promise<void> {
    const accepted = (ended: boolean) => say('subscribed', { job: job ?? null, ended });
    await listener!.subscribe({ job, after }, accepted).catch(fail);
  }

  function hear(text: string): void {
    const message = parse(text);
    if (message.type === 'ping') return void say('pong', {});
    if (message.type === 'subscribe') return void subscribe(message);
    listener!.unsubscribe(message.job);
    say('unsubscribed', { job: message.job ?? null });
  }

  return {
    open(given) {
      socket = given;
      listener = createListener(realtime, options.caller, {
        tell: (notice) => given.send(toMessage(notice)),
        close: given.close,
        buffered: given.buffered,
      });
      say('hello', { caller: options.caller });
      void subscribe(options);
    },
    message(text) {
      if (!socket || !listener?.allow()) return;
      if (text.length > MAX_MESSAGE) return socket.close(closeCodes.tooBig, 'message too big');
      try {
        hear(text);
      } catch (error) {
        fail(error);
        if (++junk > MAX_JUNK) socket.close(closeCodes.policy, 'not this protocol');
      }
    },
    closed() {
      socket = undefined;
      listener?.close();
    },
  };
}

const toMessage = memoize(
  ({ id, type, json }) =>
    `{${id === undefined ? '' : `"id":${JSON.stringify(id)},`}"type":${JSON.stringify(type)},"data":${json}}`,
);

function parse(text: string): z.output<typeof messages> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new GatewayError('invalid_json', 'The message is not valid JSON.');
  }
  const parsed = messages.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new GatewayError('invalid_request', 'The message is not one of subscribe, unsubscribe and ping.');
}
