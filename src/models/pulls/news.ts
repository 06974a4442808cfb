// Tells all who watch the gateway how pulls stand: every change of state at once, and how far they are four times a second at most.
import type { Hub } from '../../hub.ts';
import { unref } from '../../timers.ts';

export interface News {
  /** `urgent`: its state has changed. */
  tell(id: string, view: () => Record<string, unknown>, urgent: boolean): void;
  /** It has ended: nothing more is told of it. */
  forget(id: string): void;
  close(): void;
}

const PAUSE_MS = 250;

export function createNews(hub: Pick<Hub, 'publish'>): News {
  const told = new Map<string, { at: number; timer?: ReturnType<typeof setTimeout> | undefined }>();
  let closed = false;

  function publish(id: string, view: () => Record<string, unknown>): void {
    clearTimeout(told.get(id)?.timer);
    told.set(id, { at: performance.now() });
    hub.publish({ type: 'model:pull', data: view() });
  }

  return {
    tell(id, view, urgent) {
      if (closed) return;
      const before = told.get(id);
      const left = before === undefined ? 0 : before.at + PAUSE_MS - performance.now();
      if (urgent || left <= 0) return publish(id, view);
      if (before!.timer !== undefined) return;
      const timer = setTimeout(() => {
        if (told.has(id)) publish(id, view);
      }, left);
      before!.timer = timer;
      unref(timer);
    },
    forget(id) {
      clearTimeout(told.get(id)?.timer);
      told.delete(id);
    },
    close() {
      closed = true;
      for (const { timer } of told.values()) clearTimeout(timer);
      told.clear();
    },
  };
}
