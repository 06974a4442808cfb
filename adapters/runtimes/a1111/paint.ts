// One picture: asked for, watched while it is made, and stopped where that is ours to stop.
import { fromBase64 } from '../../../src/base64.ts';
import { GatewayError } from '../../../src/error.ts';
import type { PreviewEvent } from '../../../src/event.ts';
import type { Upstream } from '../../../src/upstream.ts';
import { cancelled, ifThere, notA1111, toFailure, type MadeReply, type Progress } from './wire.ts';

export interface Look {
  /** Steps done, and steps in all. */
  steps?: { done: number; total: number };
  preview?: PreviewEvent;
  /** Somebody else has stopped it; what comes is half made. */
  interrupted?: boolean;
}

export interface Painter {
  /** What is seen while the picture is made, then its reply. Throws client_closed once the server has stopped. */
  paint(path: string, body: Record<string, unknown>, signal: AbortSignal): AsyncGenerator<Look, MadeReply>;
}

export interface PaintLimits {
  /** Between two looks at the progress. */
  pollMs: number;
  /** Looks may fail for so long before the server is taken as gone. */
  silentMs: number;
  /** How long a server that stops is waited for; a step cannot be broken off. */
  stopMs: number;
}

/** A picture that nobody wants any more may have to wait for its turn before it can be stopped. */
const LONGEST_STOP_MS = 600_000;

export function createPainter(upstream: Upstream, limits: PaintLimits): Painter {
  const { pollMs, silentMs, stopMs } = limits;
  /** false where the server tells no progress and takes no interrupts. */
  let watched = true;

  async function look(preview: boolean): Promise<Progress | undefined> {
    const path = `/sdapi/v1/progress?skip_current_image=${!preview}`;
    const seen = await ifThere(upstream.control<Progress>(path));
    if (!seen) watched = false;
    return seen;
  }

  /** Interrupts our picture and no other, as soon as it is its turn; resolves when its request has ended. */
  async function stop(task: string, alone: boolean, reply: Promise<unknown>): Promise<void> {
    const end = reply.then(
      () => true,
      () => true,
    );
    const deadline = performance.now() + LONGEST_STOP_MS;
    while (watched && performance.now() < deadline) {
      const seen = await look(false).catch(() => undefined);
      // Where it is not said whose turn it is, it is ours if nobody was at work when we came.
      const ours = seen?.current_task === undefined ? alone : seen.current_task === task;
      if (await Promise.race([end, false])) return;
      if (ours) await upstream.control('/sdapi/v1/interrupt', { json: {} }).catch(() => {});
      if (await Promise.race([end, sleep(pollMs)])) return;
    }
  }

  async function send(path: string, body: Record<string, unknown>, signal: AbortSignal): Promise<MadeReply> {
    const reply = await upstream.send(path, { json: body, signal });
    const text = await reply.text();
    if (reply.status !== 200) throw toFailure(upstream, reply.status, text);
    try {
      return (JSON.parse(text) ?? {}) as MadeReply;
    } catch (cause) {
      throw notA1111(upstream.name, cause);
    }
  }

  async function* watch(
    reply: Promise<unknown>,
    left: Promise<unknown>,
    { task, steps }: { task: string; steps: number },
  ): AsyncGenerator<Look> {
    let seenAt = performance.now();
    let last = '';
    let ended = false;
    const end = reply.then(
      () => void (ended = true),
      () => void (ended = true),
    );
    for (let turn = 1; ; turn++) {
      await Promise.race([end, left, sleep(pollMs)]);
      if (ended || !watched) return;
      const seen = await look(turn % 2 === 0).catch(() => undefined);
      if (ended) return;
      if (seen) seenAt = performance.now();
      else if (performance.now() - seenAt > silentMs) throw silent(upstream.name);
      // Before our turn it tells of somebody else's picture.
      if (!seen || (seen.current_task !== undefined && seen.current_task !== task)) continue;
      const found = toLook(seen, steps, last);
      if (found.preview) last = seen.current_image!;
      yield found;
    }
  }

  return {
    async *paint(path, body, signal) {
      if (signal.aborted) throw cancelled();
      const task = `hono-ai-${crypto.randomUUID()}`;
      const before = await look(false);
      const alone = (before?.state?.job_count ?? 0) === 0;
      // Our own: a request that is cut off goes on at the server.
      const cut = new AbortController();
      const left = Promise.withResolvers<void>();
      const leave = () => left.resolve();
      signal.addEventListener('abort', leave, { once: true });
      const reply = send(path, { ...body, force_task_id: task }, cut.signal);
      reply.catch(() => {});
      let done = false;
      try {
        for await (const seen of watch(reply, left.promise, { task, steps: Number(body['steps']) })) {
          if (signal.aborted) break;
          yield seen;
        }
        await Promise.race([reply, left.promise]);
        if (signal.aborted) throw cancelled();
        const made = await reply;
        done = true;
        return made;
      } finally {
        signal.removeEventListener('abort', leave);
        if (done) cut.abort();
        else await Promise.race([stop(task, alone, reply).finally(() => cut.abort()), sleep(stopMs)]);
      }
    },
  };
}

function toLook({ progress = 0, state = {}, current_image }: Progress, asked: number, last: string): Look {
  const { sampling_step = 0, sampling_steps = 0 } = state;
  // Of an idle server it tells how the last picture ended.
  const interrupted = state.interrupted === true && sampling_step > 0 && state.job_count !== 0;
  const total = sampling_steps || asked;
  const done = Math.min(total, sampling_step || Math.floor(progress * total));
  const bytes = current_image && current_image !== last ? fromBase64(withoutPrefix(current_image)) : undefined;
  return {
    ...(done > 0 ? { steps: { done, total } } : {}),
    ...(bytes ? { preview: { type: 'preview', media_type: toMediaType(bytes), bytes } } : {}),
    ...(interrupted ? { interrupted } : {}),
  };
}

export function withoutPrefix(base64: string): string {
  return base64.replace(/^data:[^,]*,/, '');
}

function toMediaType(bytes: Uint8Array): string {
  return bytes[0] === 0xff ? 'image/jpeg' : bytes[0] === 0x52 ? 'image/webp' : 'image/png';
}

function silent(source: string): GatewayError {
  return new GatewayError('upstream_terminated', `${source} went silent while it worked.`, {
    source,
    retry: false,
    hint: `Look at the log of ${source}: it may have been killed for the memory it took.`,
  });
}

/** Resolves to nothing, and keeps no process alive. */
function sleep(ms: number): Promise<undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(undefined), ms) as unknown as { unref?(): void };
    timer.unref?.();
  });
}
