// Pulls: models on their way to this machine, each fetched once however many wait for it, paused, cut and taken up again.
import type { PulledFile } from '../capabilities/model/fields.ts';
import { GatewayError } from '../error.ts';
import type { ProgressEvent, StatusEvent, WarningEvent } from '../event.ts';
import type { Hub } from '../hub.ts';
import type { Offer, Puller, PullPlan, PullWant } from '../puller.ts';
import type { DocumentStore } from '../store.ts';
import { planPull, prepare, searchPullers } from './pulls/ask.ts';
import { chooseAgain, choosePuller, type Chosen } from './pulls/choose.ts';
import { createNews } from './pulls/news.ts';
import { createNotes } from './pulls/notes.ts';
import { createPull, type Pull } from './pulls/pull.ts';
import { createQueue } from './pulls/queue.ts';
import type { Patience } from './pulls/read.ts';
import { backoff } from './pulls/retry.ts';
import { untilAborted } from '../timers.ts';
import type { PullView } from './views.ts';

export { toPullHandler, type Advise } from './pulls/handler.ts';

export type Wanted = PullWant & { runtime?: string | undefined };

export interface PullsOptions {
  /** Of runtimes, and of folders that no runtime of ours reads. */
  pullers: Puller[];
  documents: DocumentStore;
  hub: Pick<Hub, 'publish'>;
  /** Pulls at the same time. */
  concurrency: number;
  now: () => number;
  /** A model has come or gone: lists are to be read again. Awaited before a pull counts as done. */
  onChanged(runtime: string, model: string): Promise<void>;
  warn(message: string, fields: Record<string, unknown>): void;
  patience?: Partial<Patience>;
  /** Milliseconds before another try; doubling if absent. */
  backoff?(misses: number, retryAfter: number | undefined): number;
}

export type FollowEvent =
  | StatusEvent
  | WarningEvent
  | ProgressEvent
  | { type: 'pulled'; runtime: string; model: string; files: PulledFile[]; already: boolean };

export interface Pulls {
  /** Who would get it, as far as they know now. Throws not_supported, not_found for a runtime that is not there. */
  choose(want: Wanted): Puller;
  /** Resolves soon, when all know what they need to choose well. */
  ready(): Promise<void>;
  /** Joins the pull of the same thing or begins it. Whoever leaves lets it go on for the others; the last to leave ends it. */
  follow(want: Wanted, signal: AbortSignal): AsyncGenerator<FollowEvent, void>;
  plan(want: Wanted, signal: AbortSignal): Promise<PullPlan & { runtime: string }>;
  search(words: string, signal: AbortSignal): Promise<{ offers: (Offer & { runtime: string })[]; problems: string[] }>;
  list(): PullView[];
  /** Throws not_found. */
  get(id: string): PullView;
  /** Keeps what has come; lasts over a restart. Throws not_found, conflict. */
  pause(id: string): Promise<PullView>;
  resume(id: string): Promise<PullView>;
  /** Ends it for all who wait. */
  cancel(id: string): Promise<void>;
  /** Deletes a model from disk. Throws not_supported, model_not_found, conflict while it is pulled. */
  remove(
    runtime: string,
    model: string,
    signal: AbortSignal,
  ): Promise<{ freed: number | undefined; files: PulledFile[] }>;
  /** Which models are on their way to a runtime. */
  pulling(runtime: string): ReadonlySet<string>;
  /** Grows with every change of what `pulling` tells. */
  version(): number;
  close(): Promise<void>;
}

/** Tries in a row that bring nothing until a pull fails. */
const TRIES = 5;
const STOP_MS = 5000;
const SILENCE_MS = 30 * 60_000;
/** Lists that are read again do not hold a pull longer than this. */
const CHANGED_MS = 15_000;

export function createPulls(options: PullsOptions): Pulls {
  const { pullers, hub, now, warn } = options;
  const pulls = new Map<string, Pull>();
  const queue = createQueue(options.concurrency);
  const news = createNews(hub);
  const notes = createNotes(options.documents, now);
  const removing = new Set<string>();
  let count = 0;
  let version = 0;
  let closing = false;
  let loading: Promise<void> | undefined;
  let preparing: Promise<void> | undefined;

  const choose = (wanted: Wanted) => choosePuller(pullers, wanted);

  async function changed(runtime: string, model: string): Promise<void> {
    try {
      await untilAborted(options.onChanged(runtime, model), AbortSignal.timeout(CHANGED_MS));
    } catch (error) {
      warn('the lists could not be read again after a change of models', { runtime, model, cause: String(error) });
    }
  }

  function open(chosen: Chosen, id: string, paused?: { done: number; total: number | undefined; tries: number }): Pull {
    const { runtime } = chosen.puller;
    const pull = createPull({
      id,
      chosen,
      order: ++count,
      queue,
      patience: { stopMs: STOP_MS, silenceMs: SILENCE_MS, ...options.patience },
      tries: TRIES,
      backoff: options.backoff ?? backoff,
      ...(paused ? { paused } : {}),
      onChange: (pull, urgent) => {
        if (!closing) news.tell(id, () => pull.view(), urgent);
      },
      onPulled: (model) => changed(runtime, model),
      // At a shutdown all leave: their jobs come back, and find it as it was.
      onAbandoned: (pull) => {
        if (closing) return;
        forget(pull);
        pull.end(new GatewayError('cancelled', 'Nobody waits for it any more.'));
      },
      onEnd: (pull, error) => {
        pulls.delete(chosen.key);
        version++;
        news.tell(id, () => ({ ...pull.view(), ...toEnding(error) }), true);
        news.forget(id);
        if (error && error.code !== 'cancelled') warn('a pull failed', { pull: id, runtime, code: error.code });
      },
    });
    pulls.set(chosen.key, pull);
    version++;
    return pull;
  }

  /** A store that is away does not keep it from ending; what was noted is then found, and shown as paused, at the next start. */
  function forget(pull: Pull): void {
    if (!pull.isPaused()) return;
    notes.remove(pull.id).catch((error) => warn('the note of a paused pull stays', { cause: String(error) }));
  }

  /** Pulls that an earlier process was told to pause. */
  async function load(): Promise<void> {
    try {
      for (const { id, runtime, want, ...paused } of await notes.all()) {
        const chosen = chooseAgain(pullers, runtime, want);
        if (chosen && !pulls.has(chosen.key)) open(chosen, id, paused);
      }
    } catch (error) {
      loading = undefined;
      warn('paused pulls cannot be looked up', { cause: String(error) });
    }
  }
  const loaded = () => (loading ??= load());
  const ready = () => (preparing ??= prepare(pullers));

  async function* follow(wanted: Wanted, signal: AbortSignal): AsyncGenerator<FollowEvent, void> {
    signal.throwIfAborted();
    await untilAborted(Promise.all([ready(), loaded()]), signal);
    const chosen = choose(wanted);
    // From here to the follower's seat nothing is waited for: a pull that nobody follows would end by itself only.
    signal.throwIfAborted();
    if (closing) throw new GatewayError('draining', 'The gateway is shutting down.', { retryAfter: 5 });
    const { runtime } = chosen.puller;
    if (removing.has(toName(runtime, chosen.want.model))) {
      throw new GatewayError('conflict', `${chosen.want.model} is just being deleted.`, { retryAfter: 5 });
    }
    let pull = pulls.get(chosen.key);
    if (!pull) {
      pull = open(chosen, `pull_${crypto.randomUUID().replaceAll('-', '')}`);
      pull.resume();
    }
    yield* pull.follow(signal);
  }

  function find(id: string): Pull {
    for (const pull of pulls.values()) if (pull.id === id) return pull;
    throw new GatewayError('not_found', 'There is no such pull, or it has ended.', {
      hint: 'GET /models/pulls lists those under way.',
    });
  }

  function findOpen(id: string): Pull {
    const pull = find(id);
    if (pull.settled) throw new GatewayError('conflict', 'The model is there already.');
    return pull;
  }

  void loaded();

  return {
    choose: (wanted) => choose(wanted).puller,
    ready,
    follow,
    async plan(wanted, signal) {
      await untilAborted(ready(), signal);
      const chosen = choose(wanted);
      return { ...(await planPull(chosen, signal)), runtime: chosen.puller.runtime };
    },
    search: (words, signal) => searchPullers(pullers, words, signal),
    list: () => [...pulls.values()].map((pull) => pull.view()),
    get: (id) => find(id).view(),
    async pause(id) {
      await loaded();
      const pull = findOpen(id);
      if (pull.isPaused()) return pull.view();
      await notes.add(pull);
      if (pull.settled) {
        // It ended while that was written down.
        await notes.remove(id);
        throw new GatewayError('conflict', 'The pull has just ended.');
      }
      if (!pull.isPaused()) pull.pause();
      return pull.view();
    },
    async resume(id) {
      await loaded();
      const pull = findOpen(id);
      if (!pull.isPaused()) return pull.view();
      await notes.remove(id);
      if (pull.isPaused() && !pull.settled) pull.resume();
      return pull.view();
    },
    async cancel(id) {
      await loaded();
      const pull = findOpen(id);
      if (pull.isPaused()) await notes.remove(id);
      pull.end(new GatewayError('cancelled', 'The pull was cancelled.'));
    },
    async remove(runtime, model, signal) {
      const puller = pullers.find((one) => one.runtime === runtime && one.remove);
      if (!puller?.remove) {
        throw new GatewayError('not_supported', `Models of ${runtime} cannot be deleted from here.`, {
          param: 'model',
        });
      }
      const name = toName(runtime, model);
      const pulled = [...pulls.values()].find((pull) => toName(pull.puller.runtime, pull.want.model) === name);
      if (pulled) {
        throw new GatewayError('conflict', `${model} is being pulled.`, {
          hint: `Cancel that first: DELETE /models/pulls/${pulled.id}.`,
        });
      }
      if (removing.has(name)) throw new GatewayError('conflict', `${model} is just being deleted.`);
      removing.add(name);
      // Its caller may leave; until it has ended the name is not free, and then the lists are read all the same.
      const removed = (async () => puller.remove!(model, signal))();
      const seen = removed.then(() => changed(runtime, model)).finally(() => removing.delete(name));
      await untilAborted(seen, signal);
      return removed;
    },
    pulling: (runtime) => {
      const all = [...pulls.values()].filter(({ puller }) => puller.runtime === runtime);
      return new Set(all.map(({ shown }) => shown));
    },
    version: () => version,
    async close() {
      closing = true;
      news.close();
      for (const pull of pulls.values()) pull.halt();
      await queue.idle();
    },
  };
}

function toEnding(error: GatewayError | undefined): Record<string, unknown> {
  if (!error) return { state: 'done' };
  const { code, message } = error;
  return { state: code === 'cancelled' ? 'cancelled' : 'failed', error: { code, message } };
}

/** The same for names that a runtime takes for one. */
function toName(runtime: string, model: string): string {
  return `${runtime}/${model.toLowerCase().replace(/:latest$/, '')}`;
}
