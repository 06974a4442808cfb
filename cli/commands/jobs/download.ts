// `jobs download`: the files that jobs made, or the text of those that made none.
import type { JobView } from '../../../src/jobs/view.ts';
import { defineLeaf } from '../../command.ts';
import { fetchFiles, type Fetched } from '../../fetch.ts';
import { isEnded } from '../../follow.ts';
import { CommandFailure, exitCodes } from '../../exit.ts';
import { idArgument, readIds } from '../../ids.ts';
import { saveFlags } from '../../save.ts';
import { askJson, withTarget, type Target } from '../../target.ts';
import { refuseBatches } from './look.ts';

export const download = defineLeaf({
  path: 'jobs download',
  summary: 'Save what jobs made',
  details:
    'Files go into this folder under their own names, and their paths are printed. What a job without files made is printed; with -o it becomes a file too. Nothing is written over without --force.',
  argument: idArgument('ID'),
  flags: saveFlags,
  async run(invocation) {
    const { flags, out } = invocation;
    const ids = await readIds(invocation);
    refuseBatches(ids, 'download');
    await withTarget(invocation, async (target, signal) => {
      const sources: Fetched[] = [];
      const texts: { job: string; text: string }[] = [];
      for (const id of ids) {
        const job = await getDone(target, id);
        const text = job.artifacts.length === 0 ? await toText(job) : undefined;
        if (text === undefined) sources.push(...job.artifacts.map((artifact) => ({ ...artifact, job: id })));
        else if (flags['output'] === undefined) texts.push({ job: id, text });
        else sources.push({ id, job: id, name: `${id}.txt`, text: `${text}\n` });
      }
      if (!flags.json) for (const { text } of texts) out.line(text);
      const saved = await fetchFiles(invocation, target, signal, sources);
      if (flags.json) out.json({ object: 'list', data: [...saved, ...texts] });
    });
  },
});

async function getDone(target: Target, id: string): Promise<JobView> {
  const job = await askJson<JobView>(target, { method: 'GET', path: `/jobs/${id}` });
  if (job.state === 'done') return job;
  if (!isEnded(job)) {
    throw new CommandFailure(exitCodes.failure, `${id} is ${job.state}.`, {
      code: 'conflict',
      hint: `Wait for it: hono-ai jobs wait ${id}`,
    });
  }
  const code = job.state === 'cancelled' ? exitCodes.cancelled : exitCodes.failure;
  throw new CommandFailure(code, job.error?.message ?? `${id} was ${job.state}.`, {
    code: job.error?.code ?? job.state,
    hint: `Try again: hono-ai jobs retry ${id}`,
  });
}

/** As the capability's own command would have printed it. */
async function toText({ capability, result }: JobView): Promise<string> {
  const { capabilities } = await import('../../../src/capabilities/index.ts');
  const known = Object.hasOwn(capabilities, capability)
    ? capabilities[capability as keyof typeof capabilities]
    : undefined;
  if (!known) return JSON.stringify(result);
  return (known.cli.showResult as (result: unknown) => string)(result).replace(/\n+$/, '');
}
