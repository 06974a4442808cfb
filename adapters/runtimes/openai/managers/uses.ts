// Which models work for this gateway now: those are not sent away.
import type { Call, Handler, Handlers, Relay, RelayReply } from '../../../../src/runtime.ts';

export interface Uses {
  busy(model: string): boolean;
  any(): boolean;
  /** The same handlers, counted while they work. `before` is awaited first. */
  counting(handlers: Handlers, before: (call: Call) => Promise<void> | undefined): Handlers;
  countingRelay(relay: Relay, before: (call: Call) => Promise<void> | undefined): Relay;
}

export function createUses(): Uses {
  const counts = new Map<string, number>();

  /** The function that it gives may be called more than once. */
  function begin(model: string): () => void {
    counts.set(model, (counts.get(model) ?? 0) + 1);
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      const left = counts.get(model)! - 1;
      if (left > 0) counts.set(model, left);
      else counts.delete(model);
    };
  }

  function counted(handler: Handler<'text.chat'>, before: (call: Call) => Promise<void> | undefined) {
    return async function* (input: Parameters<typeof handler>[0], call: Call) {
      const end = begin(call.model.id);
      try {
        await before(call);
        yield* handler(input, call);
      } finally {
        end();
      }
    };
  }

  return {
    busy: (model) => counts.has(model),
    any: () => counts.size > 0,
    counting: (handlers, before) =>
      // What handlers take and give is passed on as it is, so that one type stands for all.
      Object.fromEntries(
        Object.entries(handlers).map(([id, handler]) => [id, counted(handler as Handler<'text.chat'>, before)]),
      ),
    countingRelay: (relay, before) => async (request, call) => {
      const end = begin(call.model.id);
      // Bodies that nobody begins to read have no end of their own.
      call.signal.addEventListener('abort', end, { once: true });
      try {
        await before(call);
        const reply = await relay(request, call);
        return { ...reply, body: ending(reply.body, end) };
      } catch (thrown) {
        end();
        throw thrown;
      }
    },
  };
}

/** By hand: a generator would be one hop more for every piece. */
function ending(body: RelayReply['body'], end: () => void): RelayReply['body'] {
  return {
    [Symbol.asyncIterator]() {
      const pieces = body[Symbol.asyncIterator]();
      const failed = (thrown: unknown) => {
        end();
        throw thrown;
      };
      const passed = (piece: IteratorResult<Uint8Array>) => {
        if (piece.done) end();
        return piece;
      };
      return {
        next: () => pieces.next().then(passed, failed),
        async return() {
          end();
          return (await pieces.return?.()) ?? { done: true, value: undefined };
        },
      };
    },
  };
}
