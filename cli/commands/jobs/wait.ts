// `jobs wait` and `jobs watch`: what happens with jobs, until they end.
import type { BatchView } from '../../../src/jobs/batches.ts';
import type { JobView } from '../../../src/jobs/view.ts';
import { defineLeaf, type Invocation } from '../../command.ts';
import { CommandFailure, exitCodes } from '../../exit.ts';
import { followBatch, followJobs, listen, toEndCode, toJobId, type JobEvent } from '../../follow.ts';
import { idArgument, isBatch, readIds } from '../../ids.ts';
import { createProgressLine, type ProgressLine } from '../../progress.ts';
import { withTarget, type Target } from '../../target.ts';
import { refuseBatches } from './look.ts';

const eventFlag = {
  'json-stream': { type: 'boolean' as const, description: 'Print each event as a line of JSON, what came of it last.' },
};

export const wait = defineLeaf({
  path: 'jobs wait',
  summary: 'Wait until jobs or batches have ended',
  details:
    'Prints the ids of those that are done. Exit code: 0 all done, 1 one failed, 130 one was cancelled, 124 --timeout passed. Ctrl-C ends the waiting, not the jobs.',
  argument: idArgument('ID'),
  flags: { any: { type: 'boolean', description: 'Until the first of them has ended.' }, ...eventFlag },
  async run(invocation) {
    const ids = await readIds(invocation);
    if (ids.length === 0) return exitCodes.ok;
    return keepPromise(ids, () =>
      withTarget(invocation, async (target, signal) => {
        const line = createProgressLine(
          invocation,
          ids.filter((id) => !isBatch(id)),
        );
        try {
          return tell(invocation, await waitForAll(invocation, target, signal, ids, line));
        } finally {
          line.end();
        }
      }).then(toWorst),
    );
  },
});

export const watch = defineLeaf({
  path: 'jobs watch',
  summary: 'Print what happens with jobs, as it happens',
  details: 'Without ids: with all of them, until Ctrl-C. With ids: until they have ended.',
  argument: { ...idArgument('ID'), description: 'Ids; - reads them from standard input.' },
  flags: eventFlag,
  async run(invocation) {
    const { words, out, flags, io } = invocation;
    const ids = words.length === 0 ? [] : await readIds(invocation);
    refuseBatches(ids, 'watch');
    const seen = new Map<string, string>();
    const onEvent = (event: JobEvent) => {
      if (flags['json-stream'] || flags.json) return out.jsonLine({ type: event.type, ...event.data });
      const text = toLine(event);
      const id = toJobId(event) ?? '-';
      // What is asked for anew after a break says again what was seen before it.
      if (text === undefined || seen.get(id) === text) return;
      seen.set(id, text);
      const time = io.stdout.isTTY ? new Date().toLocaleTimeString('sv-SE') : new Date().toISOString();
      out.line([time, id, text].join(io.stdout.isTTY ? '  ' : '\t'));
    };
    await withTarget(invocation, async (target, signal) => {
      const options = { signal, note: out.note, onEvent };
      if (ids.length > 0) return void (await followJobs(target, ids, options));
      if (words.length > 0) return;
      for await (const event of listen(target, '/events', options)) {
        if (event.type.includes(':') || event.type === 'gpu' || event.type === 'reset') onEvent(event);
      }
    });
  },
});

type Ended = JobView | BatchView;

async function waitForAll(
  invocation: Invocation,
  target: Target,
  signal: AbortSignal,
  ids: string[],
  line: ProgressLine,
): Promise<Ended[]> {
  const { out, flags } = invocation;
  const any = flags['any'] === true;
  // With --any, those that are still waited for are left when the first has ended.
  const enough = new AbortController();
  const options = {
    any,
    signal: AbortSignal.any([signal, enough.signal]),
    note: out.note,
    onEvent(event: JobEvent) {
      if (flags['json-stream']) out.jsonLine({ type: event.type, ...event.data });
      line.onEvent(event);
    },
  };
  const onBatch = (batch: BatchView) => line.onCounts(batch.id, toCounts(batch));
  const jobs = ids.filter((id) => !isBatch(id));
  const tasks: Promise<Ended[]>[] = ids
    .filter(isBatch)
    .map(async (id) => [await followBatch(target, id, options, onBatch)]);
  if (jobs.length > 0) tasks.push(followJobs(target, jobs, options));
  try {
    return any ? await Promise.race(tasks) : (await Promise.all(tasks)).flat();
  } finally {
    enough.abort();
    for (const task of tasks) task.catch(() => {});
  }
}

/** Standard output gets what was asked for; people learn of what did not end well. */
function tell({ out, flags }: Invocation, ended: Ended[]): Ended[] {
  out.clearStatus();
  for (const view of ended) {
    if (view.object === 'batch') out.note(`${view.id}: ${toCounts(view)}`);
    else if (view.state === 'failed') {
      out.failure({
        message: `${view.id} failed: ${view.error?.message ?? 'nobody knows why'}`,
        hint: view.error?.hint,
      });
    } else if (view.state === 'cancelled') out.failure({ message: `${view.id} was cancelled.`, hint: undefined });
  }
  const whole = ended.length === 1 ? ended[0] : { object: 'list', data: ended };
  if (flags['json-stream']) out.jsonLine({ type: 'result', result: whole });
  else if (flags.json) out.json(whole);
  else for (const view of ended) if (toWorst([view]) === exitCodes.ok) out.line(view.id);
  return ended;
}

function toWorst(views: Ended[]): number {
  return toEndCode(
    views.flatMap((view) => {
      if (view.object === 'job') return [view.state];
      const { failed, cancelled } = view.counts;
      return [failed > 0 ? 'failed' : cancelled > 0 || view.state === 'cancelled' ? 'cancelled' : 'done'];
    }),
  );
}

/** Whoever stops waiting is told that the jobs do not, and how to go on. */
async function keepPromise<T>(ids: string[], work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof CommandFailure)) throw error;
    const { exitCode, code } = error;
    if (code !== 'timeout' && code !== 'cancelled') throw error;
    const named = ids.length > 3 ? `${ids.slice(0, 3).join(' ')} …` : ids.join(' ');
    const message = `${code === 'timeout' ? error.message : 'Stopped waiting.'} The work goes on.`;
    const hint = `Wait again: hono-ai jobs wait ${named}; or end it: hono-ai jobs cancel ${named}`;
    throw new CommandFailure(exitCode, message, { code, hint });
  }
}

function toCounts({ total, counts, state }: BatchView): string {
  const ended = counts.done + counts.failed + counts.cancelled;
  const told = Object.entries(counts).flatMap(([name, count]) => (count > 0 ? [`${count} ${name}`] : []));
  return `${state}, ${ended} of ${total} ended (${told.join(', ')})`;
}

/** Undefined for what is not worth a line. */
function toLine({ type, data }: JobEvent): string | undefined {
  const name = type.replace(/^job:/, '');
  const job = data['job'] as JobView | undefined;
  if (name === 'progress') {
    const { percent, message } = data as { percent?: number; message?: string };
    return [name, percent === undefined ? '' : `${Math.floor(percent)} %`, message ?? ''].filter(Boolean).join(' ');
  }
  if (name === 'preview') return `${name} ${String(data['media_type'])}`;
  if (job?.error) return `${name} ${job.error.code}: ${job.error.message}`;
  if (job) return [name, job.capability, job.model ?? ''].filter(Boolean).join(' ');
  return name === 'reset' ? 'some events were missed' : `${name} ${JSON.stringify(data)}`;
}
