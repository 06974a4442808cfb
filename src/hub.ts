// Who is told what happens: every watcher its own events, from a window that it can resume in, at a bounded cost each.
import type { EventSpine, Happening } from './store.ts';

export interface Entry {
  id: string;
  event: Happening;
  /** The event's data as JSON: written once, however many watch. */
  json: string;
}

export interface WatchOptions {
  owner: string;
  /** Only what is about this job. */
  job?: string;
  /** The last event that the watcher has seen. */
  after?: string;
  /** Called when `take` has something. Must not throw: others are told after it. */
  onEntry: () => void;
  /** Called when the hub closes while the watch is open: nothing comes any more. */
  onClose?: () => void;
}

export interface Watch {
  /**
   * What has come since, in order. `reset` is the watcher's to heed: what it had seen is not in the window any more, or it
   * fell so far behind that events were dropped; it must look at the state of things anew.
   */
  take(): { reset: boolean; entries: Entry[] };
  close(): void;
}

export interface Hub {
  publish(event: Omit<Happening, 'at'>): void;
  /** Joins at once: what is published after this returns is seen. */
  watch(options: WatchOptions): Watch;
  /** An entry that is still in the window. */
  find(id: string): Entry | undefined;
  /** Watches that are open. */
  watchers(): number;
  /** Ends every watch. */
  close(): void;
}

/** Entries and their bytes that may wait for one watcher; then its progress goes first. */
const MAX_WAITING = 1000;
const MAX_WAITING_BYTES = 1024 * 1024;
/** Previews carry pictures; a window of them must not take all memory. Each is held twice, as it came and as JSON. */
const MAX_WINDOW_BYTES = 16 * 1024 * 1024;

export async function openHub(options: { spine: EventSpine; window: number; now: () => number }): Promise<Hub> {
  const { spine, window, now } = options;
  const ring: Entry[] = [];
  const numbers = new Map<string, number>();
  let first = 0;
  let bytes = 0;
  const byOwner = new Map<string, Set<Watcher>>();
  const byJob = new Map<string, Set<Watcher>>();
  let open = 0;

  function keep(entry: Entry): void {
    numbers.set(entry.id, first + ring.length);
    ring.push(entry);
    bytes += entry.json.length;
    while (ring.length > window || bytes > MAX_WINDOW_BYTES) {
      const gone = ring.shift()!;
      first++;
      bytes -= gone.json.length;
      numbers.delete(gone.id);
    }
  }

  function tell(entry: Entry): void {
    const { event } = entry;
    keep(entry);
    if (event.owner === undefined)
      for (const group of byOwner.values()) for (const watcher of group) watcher.push(entry);
    else {
      for (const watcher of byOwner.get(event.owner) ?? []) watcher.push(entry);
      if (event.job !== undefined) {
        for (const watcher of byJob.get(event.job) ?? []) if (watcher.owner === event.owner) watcher.push(entry);
      }
    }
  }

  for (const { id, event } of await spine.history(window)) keep(toEntry(id, event));
  const stop = spine.subscribe((id, event) => tell(toEntry(id, event)));

  /** What of the window a watcher has missed; undefined where the window does not reach back so far. */
  function since(after: string, { owner, job }: WatchOptions): Entry[] | undefined {
    const number = numbers.get(after);
    if (number === undefined) return undefined;
    return ring.slice(number + 1 - first).filter(({ event }) => concerns(event, owner, job));
  }

  return {
    publish: (event) => spine.publish({ ...event, at: now() }),
    watch(wanted) {
      const { owner, job, after, onEntry, onClose } = wanted;
      const missed = after === undefined ? [] : since(after, wanted);
      const watcher = createWatcher(owner, missed, onEntry, onClose);
      const [groups, key] = job === undefined ? [byOwner, owner] : [byJob, job];
      let group = groups.get(key);
      if (!group) groups.set(key, (group = new Set()));
      group.add(watcher);
      open++;
      let closed = false;
      return {
        take: watcher.take,
        close() {
          if (closed) return;
          closed = true;
          open--;
          group.delete(watcher);
          if (group.size === 0 && groups.get(key) === group) groups.delete(key);
        },
      };
    },
    find: (id) => (numbers.has(id) ? ring[numbers.get(id)! - first] : undefined),
    watchers: () => open,
    close() {
      stop();
      const all = [...byOwner.values(), ...byJob.values()].flatMap((group) => [...group]);
      for (const watcher of all) watcher.onClose?.();
    },
  };
}

interface Watcher {
  owner: string;
  onClose: (() => void) | undefined;
  push(entry: Entry): void;
  take(): { reset: boolean; entries: Entry[] };
}

function createWatcher(
  owner: string,
  missed: Entry[] | undefined,
  onEntry: () => void,
  onClose: (() => void) | undefined,
): Watcher {
  let waiting = missed ?? [];
  let reset = missed === undefined;
  // What was missed is inside the window already; the bounds are on what comes on top.
  let most = MAX_WAITING + waiting.length;
  let bytes = 0;
  const shed = () => {
    waiting = waiting.filter(({ event }) => !isPassing(event));
    bytes = waiting.reduce((sum, entry) => sum + entry.json.length, 0);
    if (waiting.length <= most / 2 && bytes <= MAX_WAITING_BYTES) return;
    waiting = [];
    bytes = 0;
    reset = true;
  };
  return {
    owner,
    onClose,
    push(entry) {
      waiting.push(entry);
      bytes += entry.json.length;
      if (waiting.length > most || bytes > MAX_WAITING_BYTES) shed();
      onEntry();
    },
    take() {
      const taken = { reset, entries: waiting };
      reset = false;
      waiting = [];
      most = MAX_WAITING;
      bytes = 0;
      return taken;
    },
  };
}

/** Events of this process alone, for a store that only one gateway serves; what was before its start nobody can resume. */
export function createLocalSpine(): EventSpine {
  const epoch = crypto.randomUUID().slice(0, 8);
  const listeners = new Set<(id: string, event: Happening) => void>();
  let count = 0;
  return {
    publish(event) {
      const id = `${epoch}-${++count}`;
      for (const listener of listeners) listener(id, event);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    history: async () => [],
  };
}

function concerns(event: Happening, owner: string, job: string | undefined): boolean {
  return (event.owner === undefined || event.owner === owner) && (job === undefined || event.job === job);
}

/** Of passing interest: nobody misses one of them when the next has come. */
export function isPassing({ type }: { type: string }): boolean {
  return type === 'job:progress' || type === 'job:preview' || type === 'gpu';
}

/** After which nothing more happens to a job, unless it is tried again. */
export function isTerminal({ type }: { type: string }): boolean {
  return type === 'job:done' || type === 'job:failed' || type === 'job:cancelled';
}

function toEntry(id: string, event: Happening): Entry {
  return { id, event, json: JSON.stringify(event.data) };
}
