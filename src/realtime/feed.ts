// One watcher's way through the events: what it missed or how things stand, then what happens, each once and the end once.
import { GatewayError } from '../error.ts';
import { isPassing, isTerminal, type Entry, type Hub } from '../hub.ts';
import { RESET, toNotice, toStateNotice, type Notice, type Snapshot } from './notice.ts';

export interface FeedOptions {
  hub: Hub;
  owner: string;
  /** Only this job; the feed ends with it. */
  job?: string | undefined;
  /** The last event that the watcher has seen. */
  after?: string | undefined;
  /** Undefined where the job is not there, or is somebody else's. */
  snapshot: () => Promise<Snapshot | undefined>;
}

/** No function may throw. */
export interface Sink {
  tell(notice: Notice): void;
  /** Bytes that wait to be sent. */
  buffered(): number;
  /** Nothing comes any more: the job has ended, or the gateway ends. */
  end(): void;
}

export interface Feed {
  /** The watcher has seen the job's end already: there is nothing to tell. */
  over: boolean;
  /** Whether the job has ended. */
  ended: boolean;
  /** Tells what there is and goes on telling. To be called once. */
  start(sink: Sink): void;
  /** While it is held, what happens waits. */
  hold(held: boolean): void;
  close(): void;
}

/** Bytes that may wait for one watcher before its wire cuts it. It loses nothing: it comes back with the last event it has seen. */
export const MAX_BUFFERED = 1024 * 1024;
/** Bytes from which on passing events are left out, so that the others still find room. */
const NO_PASSING = 768 * 1024;
/** What was missed goes out as fast as it is read: with this many bytes waiting, the next look is after LOOK_MS. */
const ENOUGH = 256 * 1024;
const LOOK_MS = 20;
/** Milliseconds after which a watcher that takes nothing of what it missed is given up. */
const PATIENCE_MS = 30_000;

/** Joins first and looks then, so that nothing falls between. Throws not_found, and what the snapshot throws. */
export async function openFeed({ hub, owner, job, after, snapshot }: FeedOptions): Promise<Feed> {
  let sink: Sink | undefined;
  let ended = false;
  let closed = false;
  /** Reasons to let events wait: not started, held from outside, a snapshot on its way. */
  let waits = 1;
  const watch = hub.watch({
    owner,
    onEntry: () => waits === 0 && drain(),
    onClose: finish,
    ...(job === undefined ? {} : { job }),
    ...(after === undefined ? {} : { after }),
  });

  async function look(): Promise<Snapshot> {
    const state = await snapshot();
    if (!state) throw new GatewayError('not_found', 'There is no such job.');
    return state;
  }

  function finish(): void {
    if (closed) return;
    close();
    sink?.end();
  }

  function close(): void {
    closed = true;
    watch.close();
  }

  function drain(): void {
    const { reset, entries } = watch.take();
    if (reset) return void again();
    for (const entry of entries) {
      if (closed) return;
      if (hasRoom(entry)) sink!.tell(toNotice(entry));
      if (job !== undefined && isTerminal(entry.event)) finish();
    }
  }

  /** Nobody misses a passing event for which there is no room. */
  function hasRoom({ event, json }: Entry): boolean {
    if (!isPassing(event)) return true;
    const waiting = sink!.buffered();
    return waiting === 0 || waiting + json.length <= NO_PASSING;
  }

  /** Tells what may be much, at the pace of the reader. */
  async function tellAll(notices: Notice[]): Promise<void> {
    for (const notice of notices) {
      if (sink!.buffered() > ENOUGH && !(await drained(sink!, () => closed))) finish();
      if (closed) return;
      sink!.tell(notice);
    }
  }

  /** The watcher fell behind: it gets the state of things anew. */
  async function again(): Promise<void> {
    waits++;
    sink!.tell(RESET);
    try {
      const state = await look();
      if (closed) return;
      await tellAll(state.events.map(toStateNotice));
      if (job !== undefined && state.ended) finish();
    } catch {
      // It comes back with the last event it has seen, or learns then why it cannot.
      finish();
    }
    release();
  }

  function release(): void {
    if (--waits === 0 && !closed) drain();
  }

  async function begin(): Promise<{ notices: Notice[]; over: boolean }> {
    const { reset, entries } = watch.take();
    const missed = upToEnd(entries, job);
    const last = missed.at(-1);
    if (job !== undefined && last && isTerminal(last.event)) {
      ended = true;
      return { notices: missed.map(toNotice), over: false };
    }
    if (after !== undefined && !reset && job === undefined) return { notices: missed.map(toNotice), over: false };
    const state = await look();
    ended = job !== undefined && state.ended;
    const states = state.events.map(toStateNotice);
    if (after === undefined) return { notices: states, over: false };
    if (reset) return { notices: [RESET, ...states], over: false };
    const seen = hub.find(after);
    if (ended && missed.length === 0 && seen && seen.event.job === job && isTerminal(seen.event)) {
      return { notices: [], over: true };
    }
    // It ended although no event says so: the event is on its way still, or was lost. The state says it, once.
    return { notices: [...missed.map(toNotice), ...(ended ? states.filter(isTerminal) : [])], over: false };
  }

  try {
    const { notices, over } = await begin();
    return {
      over,
      ended,
      start(to) {
        sink = to;
        if (closed) return to.end();
        void tellAll(notices).then(() => (ended ? finish() : release()));
      },
      hold: (held) => (held ? waits++ : release()),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** Throws overloaded where `now` watchers are as many as there may be. */
export function refuseBeyond(most: number, now: number): void {
  if (now < most) return;
  throw new GatewayError('overloaded', 'Too many connections watch events.', {
    retryAfter: 10,
    hint: 'Close some, or raise HONO_AI_MAX_WATCHERS.',
  });
}

/** What came after the end of a job belongs to its next try, and to the next feed. */
function upToEnd(entries: Entry[], job: string | undefined): Entry[] {
  const end = job === undefined ? -1 : entries.findIndex(({ event }) => isTerminal(event));
  return end < 0 ? entries : entries.slice(0, end + 1);
}

/** Waits until there is room again. False where the reader takes nothing for too long. */
async function drained(sink: Sink, isOver: () => boolean): Promise<boolean> {
  let since = performance.now();
  let least = Infinity;
  while (!isOver() && sink.buffered() > ENOUGH) {
    const waiting = sink.buffered();
    if (waiting < least) since = performance.now();
    else if (performance.now() - since > PATIENCE_MS) return false;
    least = Math.min(least, waiting);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return true;
}
