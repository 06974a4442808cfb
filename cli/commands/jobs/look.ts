// `jobs ls` and `jobs show`: jobs as they stand.
import type { BatchView } from '../../../src/jobs/batches.ts';
import type { JobView } from '../../../src/jobs/view.ts';
import { defineLeaf, type Flag } from '../../command.ts';
import { usageError } from '../../exit.ts';
import { idArgument, isBatch, readIds } from '../../ids.ts';
import { pageFlags, printList, printWhole } from '../../pages.ts';
import { toOrdinal, toSpan } from '../../progress.ts';
import { askJson, withTarget } from '../../target.ts';

const STATES = ['queued', 'running', 'done', 'failed', 'cancelled'];

const filterFlags: Record<string, Flag> = {
  state: {
    type: 'string',
    multiple: true,
    valueHint: 'STATE',
    description: `Only these: ${STATES.join(', ')}.`,
    read(text) {
      const states = text.split(',').map((state) => state.trim());
      if (states.some((state) => !STATES.includes(state))) throw new Error(`one of ${STATES.join(', ')}`);
      return states;
    },
  },
  capability: { type: 'string', valueHint: 'NAME', description: 'Only of this capability, such as text.generate.' },
  batch: { type: 'string', valueHint: 'ID', description: 'Only of this batch.' },
};

export const ls = defineLeaf({
  path: 'jobs ls',
  summary: 'List jobs, newest first',
  details: 'Piped, the columns are separated by tabs; the id is the first.',
  flags: { ...filterFlags, ...pageFlags },
  run: (invocation) =>
    withTarget(invocation, async (target) => {
      const { out, flags, io } = invocation;
      const count = await printList<JobView>(invocation, target, '/jobs', {
        query: {
          state: (flags['state'] as string[][] | undefined)?.flat().join(','),
          capability: flags['capability'] as string | undefined,
          batch: flags['batch'] as string | undefined,
        },
        head: ['JOB', 'STATE', 'WHAT', 'MODEL', 'CREATED', 'DETAILS'],
        toRow: (job) => [
          job.id,
          job.state,
          job.capability,
          job.model ?? '-',
          io.stdout.isTTY ? toLocalTime(job.created_at) : job.created_at,
          toDetails(job),
        ],
      });
      if (count === 0) out.note('No jobs.');
    }),
});

export const show = defineLeaf({
  path: 'jobs show',
  summary: 'Show all about jobs or batches',
  argument: idArgument('ID'),
  flags: {},
  async run(invocation) {
    const ids = await readIds(invocation);
    await withTarget(invocation, async (target) => {
      const seen: (JobView | BatchView)[] = [];
      for (const id of ids) {
        const path = isBatch(id) ? `/jobs/batches/${id}` : `/jobs/${id}`;
        seen.push(await askJson<JobView | BatchView>(target, { method: 'GET', path }));
      }
      printWhole(invocation, seen);
    });
  },
});

/** Throws a usage error for ids of batches. */
export function refuseBatches(ids: string[], verb: string): void {
  const odd = ids.find(isBatch);
  if (odd === undefined) return;
  throw usageError(
    `${odd} is a batch.`,
    `Its jobs: hono-ai jobs ls --batch ${odd} --all --ids | hono-ai jobs ${verb} -`,
  );
}

/** In a few words, what of a job is worth knowing in its state. */
function toDetails({ state, position, eta_s, progress, timings, artifacts, error, cached, run_at }: JobView): string {
  const eta = eta_s === null ? '' : `about ${toSpan(eta_s)} left`;
  const files = artifacts.length === 0 ? '' : `${artifacts.length} ${artifacts.length === 1 ? 'file' : 'files'}`;
  const parts = {
    queued: [
      position === null ? `not before ${toLocalTime(run_at)}` : toOrdinal(position),
      eta_s === null ? '' : `~${toSpan(eta_s)}`,
    ],
    running: [progress ? `${Math.floor(progress.percent)} %` : '', progress?.message ?? '', eta],
    done: [timings ? `${(timings.run_ms / 1000).toFixed(1)} s` : '', files, cached ? 'from memory' : ''],
    failed: [error ? `${error.code}: ${error.message}` : ''],
    cancelled: [],
  }[state];
  return parts.filter(Boolean).join(', ');
}

/** `2026-03-01 17:04:05`, as the clock on the wall says. */
function toLocalTime(iso: string): string {
  return new Date(iso).toLocaleString('sv-SE');
}
