// The queue and the worker of a fake ComfyUI: one prompt at a time, smallest number first, history when it is done.
import { setTimeout as pause } from 'node:timers/promises';
import type { Item, Message, Outcome } from './execution.ts';

export interface HistoryEntry {
  prompt: [number, string, object, object, string[]];
  outputs: Record<string, unknown>;
  status: { status_str: 'success' | 'error'; completed: boolean; messages: Message[] };
  meta: Record<string, unknown>;
}

export interface Queue {
  put(item: Item): void;
  running(): Item | undefined;
  pending(): Item[];
  remaining(): number;
  history: Map<string, HistoryEntry>;
  /** False where it does not wait. */
  remove(id: string): boolean;
  clear(): void;
  /** Sets the flag that the running prompt looks at; with an id only where that one runs. True where it met one. */
  interrupt(id?: string): boolean;
  isInterrupted(): boolean;
  /** Settles at the next interrupt. */
  onInterrupt(): Promise<void>;
  /** What /free asked for; acted on when nothing runs. */
  free(flags: { unload_models: boolean; free_memory: boolean }): void;
  stop(): void;
}

export function createQueue(hooks: {
  run(item: Item): Promise<Outcome>;
  changed(): void;
  finished(item: Item): void;
  freed(flags: { unload_models: boolean; free_memory: boolean }): void;
  historyDelay(): number;
}): Queue {
  let pending: Item[] = [];
  let running: Item | undefined;
  let interrupted = false;
  let flags = { unload_models: false, free_memory: false };
  let working = false;
  let stopped = false;
  let wake = Promise.withResolvers<void>();
  const history = new Map<string, HistoryEntry>();

  async function work(): Promise<void> {
    if (working) return;
    working = true;
    // The answer to POST /prompt goes out first, as it does where the worker is a thread of its own.
    await new Promise(setImmediate);
    for (;;) {
      const item = pending.shift();
      if (item) await workOn(item);
      if (stopped) break;
      if (flags.unload_models || flags.free_memory) {
        const asked = flags;
        flags = { unload_models: false, free_memory: false };
        hooks.freed(asked);
      }
      if (pending.length === 0) break;
    }
    working = false;
  }

  async function workOn(item: Item): Promise<void> {
    running = item;
    interrupted = false;
    wake = Promise.withResolvers<void>();
    hooks.changed();
    const outcome = await hooks.run(item);
    if (stopped) return;
    // The result is told of before it is written down.
    if (hooks.historyDelay() > 0) await pause(hooks.historyDelay());
    if (stopped) return;
    history.set(item.id, {
      prompt: [item.number, item.id, item.graph, item.extra, item.outputs],
      outputs: outcome.outputs,
      status: {
        status_str: outcome.success ? 'success' : 'error',
        completed: outcome.success,
        messages: outcome.messages,
      },
      meta: outcome.meta,
    });
    running = undefined;
    hooks.changed();
    hooks.finished(item);
  }

  return {
    put(item) {
      const at = pending.findIndex((other) => item.number < other.number);
      pending.splice(at < 0 ? pending.length : at, 0, item);
      hooks.changed();
      void work();
    },
    running: () => running,
    pending: () => pending,
    remaining: () => pending.length + (running ? 1 : 0),
    history,
    remove(id) {
      const kept = pending.filter((item) => item.id !== id);
      const found = kept.length < pending.length;
      // The last one goes by way of clearing, which tells of itself.
      const last = found && kept.length === 0;
      pending = kept;
      if (last) hooks.changed();
      if (found) hooks.changed();
      return found;
    },
    clear() {
      pending = [];
      hooks.changed();
    },
    interrupt(id) {
      const hit = running !== undefined && (id === undefined || running.id === id);
      if (hit) {
        interrupted = true;
        wake.resolve();
      }
      return hit;
    },
    isInterrupted: () => interrupted || stopped,
    onInterrupt: () => wake.promise,
    free(asked) {
      flags = {
        unload_models: flags.unload_models || asked.unload_models,
        free_memory: flags.free_memory || asked.free_memory,
      };
      void work();
    },
    stop() {
      stopped = true;
      pending = [];
      wake.resolve();
    },
  };
}
