// Tells who listens that there may be work: at once for what this process wrote, soon for what another one did.
import type { DatabaseSync } from 'node:sqlite';

export interface Changes {
  listen(listener: () => void): () => void;
  /** Writes down, for other processes, that there is something to look at; to be called in the transaction that brings it. */
  mark(): void;
  /** Tells who listens here, once that is on disk. */
  tell(): void;
  close(): void;
}

/** How often another process's writes are looked for, in milliseconds. */
const POLL_MS = 500;

export function createChanges(db: DatabaseSync): Changes {
  // Costs no more than a look at shared memory, and changes with every commit of others.
  const version = db.prepare('PRAGMA data_version');
  const news = db.prepare("SELECT n FROM tally WHERE scope = 'news' AND key = 0");
  const count = db.prepare("UPDATE tally SET n = n + 1 WHERE scope = 'news' AND key = 0");
  const listeners = new Set<() => void>();
  let seen = { version: -1, news: -1 };
  let timer: NodeJS.Timeout | undefined;
  let telling = false;

  /** Whether something was marked since the last look. Signs of life of others are commits too, but no news. */
  function look(): boolean {
    const { data_version: commits } = version.get() as { data_version: number };
    if (commits === seen.version) return false;
    const { n } = news.get() as { n: number };
    const changed = n !== seen.news;
    seen = { version: commits, news: n };
    return changed;
  }

  function poll(): void {
    try {
      if (look()) tell();
    } catch {
      // The next write says what is wrong with the disk; a look must not end the process.
    }
  }

  /** Once for everything that one commit brought. */
  function tell(): void {
    if (telling || listeners.size === 0) return;
    telling = true;
    queueMicrotask(() => {
      telling = false;
      for (const listener of listeners) listener();
    });
  }

  function stop(): void {
    clearInterval(timer);
    timer = undefined;
  }

  return {
    listen(listener) {
      // A wrapper, so that the same function may listen twice.
      const entry = () => listener();
      if (listeners.size === 0) {
        look();
        timer = setInterval(poll, POLL_MS);
        timer.unref();
      }
      listeners.add(entry);
      return () => {
        listeners.delete(entry);
        if (listeners.size === 0) stop();
      };
    },
    mark() {
      count.run();
    },
    tell,
    close() {
      stop();
      listeners.clear();
    },
  };
}
