// The ACE-Step runtime: music.generate on an ACE-Step 1.5 API server, whose tasks are handed in and asked after.
import type { Input } from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { RunEvent } from '../../../src/event.ts';
import type { Call, RuntimeAdapter } from '../../../src/runtime.ts';
import { createUpstream, errorText, type Transport, type UpstreamLimits } from '../../../src/upstream.ts';
import type { Downloads } from '../../downloads/index.ts';
import { createShelf } from '../../shelves/shelf.ts';
import { createCard } from './card.ts';
import { toShelf } from './models.ts';
import { toTask } from './task.ts';
import { createClient, type Item, toTaskFailure, WAITING } from './wire.ts';

export interface AceStepOptions {
  name: string;
  /** e.g. `http://127.0.0.1:8001`, without a path. */
  baseUrl: string;
  transport: Transport;
  limits: UpstreamLimits;
  /** Default 60: before a ComfyUI that can make music too. */
  priority?: number;
  /** As ACESTEP_API_KEY says. */
  apiKey?: string;
  /** Its folder of checkpoints, where that is on this machine. */
  modelsDir?: string;
  /** What brings models; without it none can be got. */
  downloads?: Downloads;
  /** The Hugging Face hub or its mirror. */
  hubUrl?: string;
  /** How many tasks it is sent at the same time; default 1, as it works on one after the other. */
  slots?: number;
  /** Milliseconds without any answer until a task is given up; default 30 000. */
  silenceMs?: number;
  /** Milliseconds without progress until the server is asked whether it does anything at all; default 15 000. */
  stallMs?: number;
}

type MusicEvent = RunEvent<never, { seed: number; revised_prompt?: string }>;

const HUB_URL = 'https://huggingface.co';
const FALLBACK_MODEL = 'acestep-v15-turbo';
const FIRST_POLL_MS = 100;
const LAST_POLL_MS = 1000;
const POLL_GROWTH = 1.5;
/** A server that was restarted says of a task it has forgotten that it waits, for ever; so many such answers in a row are believed. */
const FORGOTTEN = 3;

export function createAceStep(options: AceStepOptions): RuntimeAdapter {
  const { name, priority = 60, slots = 1, apiKey, limits, downloads, silenceMs = 30_000, stallMs = 15_000 } = options;
  const upstream = createUpstream({
    ...options,
    ...(apiKey === undefined ? {} : { headers: { authorization: `Bearer ${apiKey}` } }),
    hint: 'Start it with `acestep-api`, or correct its address in the configuration.',
  });
  const client = createClient(upstream, limits.maxReplyBytes);
  const card = createCard(name, client);

  async function* generate(input: Input<'music.generate'>, call: Call): AsyncGenerator<MusicEvent> {
    const { signal, model } = call;
    const { json, seed, format, warnings } = toTask(input, model.id);
    for (const warning of warnings) yield { type: 'warning', warning };
    const { id, position } = await submit(json, model.id, signal);
    let ended = false;
    try {
      yield { type: 'status', state: 'queued', ...(position === undefined ? {} : { position }) };
      const item = yield* follow(id, signal, () => (ended = true));
      for (const warning of differences(item, json, model.id)) yield { type: 'warning', warning };
      if (!item.file) throw toTaskFailure(upstream, 'no file came of it');
      const revised = item.prompt && item.prompt !== input.prompt ? { revised_prompt: item.prompt } : {};
      const bytes = client.open(item.file);
      yield {
        type: 'result',
        result: { seed, ...revised },
        files: [{ name: `${model.id}.${format}`, bytes }],
      };
    } finally {
      if (ended) card.ended(id);
      else card.abandoned(id);
    }
  }

  /** A caller who leaves meanwhile does not take the answer along: only its id tells when the card is free again. */
  async function submit(json: object, model: string, signal: AbortSignal) {
    if (signal.aborted) throw cancelled();
    const taken = client.submit(json, new AbortController().signal).then((task) => {
      card.began(task.id, model);
      return task;
    });
    card.sends(model, taken);
    return unlessAborted(taken, signal).catch((error: unknown) => {
      if (signal.aborted) taken.then(({ id }) => card.abandoned(id)).catch(() => {});
      throw error;
    });
  }

  async function* follow(id: string, signal: AbortSignal, onEnd: () => void): AsyncGenerator<MusicEvent, Item> {
    let interval = FIRST_POLL_MS;
    let answeredAt = Date.now();
    let movedAt = Date.now();
    let forgotten = 0;
    let idle = false;
    let seen = { progress: 0, stage: WAITING };
    for (;;) {
      await unlessAborted(new Promise((resolve) => setTimeout(resolve, interval)), signal);
      interval = Math.min(LAST_POLL_MS, interval * POLL_GROWTH);
      const found = await client.query(id, signal).catch((error: unknown) => {
        if (signal.aborted) throw cancelled();
        // It may be restarting, or too busy to answer.
        if (!isSilence(error)) throw error;
        if (Date.now() - answeredAt < silenceMs) return undefined;
        onEnd();
        throw gone('does not answer any more', error);
      });
      if (signal.aborted) throw cancelled();
      if (!found) continue;
      answeredAt = Date.now();
      if (found.state === 'done' || found.state === 'failed') {
        onEnd();
        if (found.state === 'failed') throw toTaskFailure(upstream, found.error);
        yield { type: 'progress', done: 100, total: 100, unit: 'percent' };
        return found.item;
      }
      forgotten = found.state === 'unknown' ? forgotten + 1 : 0;
      const now = found.state === 'working' ? found : seen;
      const moved = now.progress > seen.progress || now.stage !== seen.stage;
      if (forgotten >= FORGOTTEN || (idle && !moved)) {
        onEnd();
        throw gone('was restarted and has forgotten this task');
      }
      if (now.stage !== seen.stage) {
        yield {
          type: 'status',
          state: 'running',
          ...(now.stage === 'running' ? {} : { message: toMessage(now.stage) }),
        };
      }
      if (now.progress > seen.progress) {
        yield { type: 'progress', done: Math.round(now.progress * 100), total: 100, unit: 'percent' };
      }
      if (moved) movedAt = Date.now();
      seen = { progress: Math.max(seen.progress, now.progress), stage: now.stage };
      // Some versions keep a task on disk as running, although the process that ran it is gone.
      idle = Date.now() - movedAt > stallMs && (await client.isIdle(signal));
      if (Date.now() - movedAt > stallMs) movedAt = Date.now();
    }
  }

  function gone(what: string, cause?: unknown): GatewayError {
    return new GatewayError('upstream_terminated', `${name} ${what}.`, {
      source: name,
      retry: false,
      hint: 'Ask again; if it happens again, look at its log: it may run out of memory.',
      cause,
    });
  }

  return {
    name,
    priority,
    async models(signal) {
      const names = await client.models(signal);
      const known = names?.length ? names : [FALLBACK_MODEL];
      return [...new Set(known)].map((id, at) => ({
        id,
        capabilities: ['music.generate' as const],
        // It lists what it has loaded.
        state: names?.length ? ('loaded' as const) : ('ready' as const),
        rank: known.length - at,
      }));
    },
    handles: { 'music.generate': generate },
    gpu: { ...card.gpu, slots: { runtime: slots } },
    ...(downloads
      ? { puller: createShelf(toShelf(name), { dir: options.modelsDir, downloads, hubUrl: options.hubUrl ?? HUB_URL }) }
      : {}),
    health: client.check,
    async close() {
      card.close();
    },
  };
}

/** What the server did otherwise than it was told, without a word. */
function differences({ dit_model, metas }: Item, asked: Record<string, unknown>, model: string): string[] {
  const warnings: string[] = [];
  if (dit_model && dit_model !== model) warnings.push(`${model} is not loaded there: ${dit_model} made this piece.`);
  const made = Number(metas?.duration);
  const wanted = asked['audio_duration'] as number | undefined;
  if (wanted !== undefined && made > 0 && made < wanted - 1) {
    warnings.push(`The server made ${made} seconds instead of ${wanted}: its card has no room for more.`);
  }
  return warnings;
}

function toMessage(stage: string): string {
  return errorText(stage).slice(0, 200);
}

function isSilence(error: unknown): boolean {
  const codes = ['upstream_unavailable', 'upstream_terminated', 'upstream_timeout', 'upstream_idle'];
  return error instanceof GatewayError && codes.includes(error.code);
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) throw cancelled();
  const left = Promise.withResolvers<never>();
  const leave = () => left.reject(cancelled());
  signal.addEventListener('abort', leave, { once: true });
  try {
    return await Promise.race([work, left.promise]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}

function cancelled(): GatewayError {
  return new GatewayError('client_closed', 'The request was cancelled; the server finishes the piece on its own.');
}
