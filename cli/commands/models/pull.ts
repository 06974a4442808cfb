// `models pull`: models brought to the gateway's machine, watched while they come.
import { pullKinds } from '../../../src/capabilities/model/fields.ts';
import type { JobView } from '../../../src/jobs/view.ts';
import { defineLeaf, type Flag, type Invocation } from '../../command.ts';
import { detachFlags, toJobOptions, toNextSteps, toRequestHeaders } from '../../detach.ts';
import { readEvents } from '../../events.ts';
import { CommandFailure, exitCodes, usageError } from '../../exit.ts';
import { followJobs } from '../../follow.ts';
import { printWhole } from '../../pages.ts';
import { createProgressLine } from '../../progress.ts';
import { askJson, openTarget, readAnswer, withTarget, type Target } from '../../target.ts';
import { toSize } from '../../sizes.ts';
import { planOf, toReadable } from './look.ts';
import { readNames } from './names.ts';

interface Pulled {
  model: string;
  runtime: string;
  already: boolean;
  files: { name: string; size?: number }[];
  warnings: string[];
}

/** Milliseconds that a gateway gets to take back what Ctrl-C cancelled. */
const CANCEL_MS = 5000;

const wantFlags: Record<string, Flag> = {
  runtime: { type: 'string', valueHint: 'NAME', description: 'For whom; found by the name and the source if absent.' },
  source: {
    type: 'string',
    valueHint: 'URL|hf:ORG/REPO',
    description: 'Where it is: an https address, or hf:org/repo[@revision][/path/of/file].',
  },
  sha256: { type: 'string', valueHint: 'HEX', description: 'Of the file that --source names.' },
  kind: {
    type: 'enum',
    options: [...pullKinds],
    valueHint: 'KIND',
    description: 'What the file is, where that cannot be seen: it decides the folder.',
  },
};

export const pull = defineLeaf({
  path: 'models pull',
  summary: 'Get models',
  details:
    'From Ollama’s library (qwen3:8b), as a recipe with all its files (sdxl, animatediff), from Hugging Face (hf.co/org/repo:Q4_K_M) or from an address. Ctrl-C stops; what has come is kept, and the same command goes on there. --detach leaves it to the gateway.',
  argument: { hint: 'MODEL…', max: Infinity, completes: 'model' },
  flags: {
    ...wantFlags,
    'dry-run': { type: 'boolean', description: 'Tell what it would take: files, bytes, memory, and whether it fits.' },
    'json-stream': { type: 'boolean', description: 'Print each event as a line of JSON, the result last.' },
    ...detachFlags,
  },
  async run(invocation) {
    const { flags } = invocation;
    const names = readNames(invocation);
    if (names.length > 1 && flags['source'] !== undefined) throw usageError('--source is about one model.');
    if (flags['dry-run']) {
      const plans = await withTarget(invocation, (target) =>
        Promise.all(names.map((name) => planOf(target, name, invocation))),
      );
      return printWhole(invocation, flags.json ? plans : plans.map(toReadable));
    }
    if (flags['detach']) return detach(invocation, names);
    const results: Pulled[] = [];
    for (const name of names) results.push(await fetchOne(invocation, name));
    if (flags.json && !flags['json-stream']) {
      invocation.out.json(results.length === 1 ? results[0] : { object: 'list', data: results });
    }
  },
});

async function detach(invocation: Invocation, names: string[]): Promise<void> {
  const { out, flags } = invocation;
  await withTarget(invocation, async (target) => {
    const jobs: JobView[] = [];
    for (const name of names) {
      const job = await askJson<JobView>(target, {
        ...toRequest(invocation, name),
        method: 'POST',
        path: '/models/pull',
      });
      jobs.push(job);
      if (!flags.json) out.line(job.id);
      out.note(toNextSteps(job, target.url !== undefined).replace(/; then: .*$/m, ''));
    }
    if (flags.json) out.json(jobs.length === 1 ? jobs[0] : { object: 'list', data: jobs });
  });
}

/** Throws a CommandFailure; Ctrl-C takes this caller's wish back, others who wait for the same model keep it going. */
async function fetchOne(invocation: Invocation, name: string): Promise<Pulled> {
  const { out, flags } = invocation;
  let job: string | undefined;
  try {
    const pulled = await withTarget(invocation, (target, signal) =>
      watch(invocation, { target, signal, name, onJob: (id) => (job = id) }),
    );
    for (const warning of pulled.warnings) out.note(`warning: ${warning}`);
    if (flags['json-stream']) out.jsonLine({ type: 'result', result: pulled });
    else if (!flags.json) out.line(pulled.model);
    const bytes = pulled.files.reduce((sum, { size = 0 }) => sum + size, 0);
    out.note(
      pulled.already
        ? `${pulled.model}: was here already, on ${pulled.runtime}`
        : `${pulled.model}: ready on ${pulled.runtime}${bytes > 0 ? `, ${toSize(bytes)}` : ''}`,
    );
    return pulled;
  } catch (error) {
    const left = error instanceof CommandFailure && (error.code === 'cancelled' || error.code === 'timeout');
    if (!left || job === undefined) throw error;
    await takeBack(invocation, job);
    throw new CommandFailure(error.exitCode, error.message, {
      code: error.code,
      hint: `What has come is kept: hono-ai models pull ${name} goes on there.`,
    });
  }
}

async function watch(
  invocation: Invocation,
  order: { target: Target; signal: AbortSignal; name: string; onJob(id: string): void },
): Promise<Pulled> {
  const { out, flags } = invocation;
  const { target, signal, name, onJob } = order;
  const request = toRequest(invocation, name, { stream: true });
  const reply = await target.send({ ...request, method: 'POST', path: '/models/pull', accept: 'text/event-stream' });
  const job = reply.header('x-job-id');
  if (reply.status !== 200 || job === undefined) {
    await readAnswer(reply);
    throw new CommandFailure(exitCodes.unavailable, 'The gateway took no job.', { code: 'upstream_invalid' });
  }
  onJob(job);
  const line = createProgressLine(invocation, [job], true);
  try {
    for await (const event of readEvents(reply.body)) {
      if (event.type === 'result') return event.result as unknown as Pulled;
      if (flags['json-stream']) out.jsonLine(event);
      if (event.type === 'warning') out.note(`warning: ${event.warning}`);
      if (event.type === 'progress') line.onEvent({ type: 'job:progress', data: { id: job, ...event } });
      if (event.type === 'status') line.onEvent({ type: `job:${event.state}`, data: { job: { id: job, ...event } } });
    }
  } catch (error) {
    // The pull is the gateway's: it goes on when that is back.
    const lost = error instanceof CommandFailure && /^upstream_(terminated|truncated)$/.test(error.code);
    if (!lost || 'source' in error.fields || target.url === undefined) throw error;
    return await followOn(invocation, target, signal, job, line.onEvent);
  } finally {
    line.end();
  }
  throw new CommandFailure(exitCodes.unavailable, 'The answer ended before it was complete.');
}

async function followOn(
  { out }: Invocation,
  target: Target,
  signal: AbortSignal,
  job: string,
  onEvent: ReturnType<typeof createProgressLine>['onEvent'],
): Promise<Pulled> {
  await followJobs(target, [job], { signal, note: out.note, onEvent });
  const ended = await askJson<JobView>(target, { method: 'GET', path: `/jobs/${job}` });
  if (ended.result) return ended.result as unknown as Pulled;
  const { message = 'The pull did not end well.', hint, code = 'failure' } = ended.error ?? {};
  throw new CommandFailure(exitCodes.failure, message, { code, ...(hint ? { hint } : {}) });
}

/** On a connection of its own: this command's has just been given up. */
async function takeBack(invocation: Invocation, job: string): Promise<void> {
  const target = await openTarget(invocation, AbortSignal.timeout(CANCEL_MS)).catch(() => undefined);
  try {
    await target?.send({ method: 'DELETE', path: `/jobs/${job}` });
  } catch {
    // A gateway that has gone takes its pulls with it.
  } finally {
    await target?.close();
  }
}

function toRequest({ flags }: Invocation, model: string, more: object = {}) {
  const { runtime, source, sha256, kind } = flags;
  const job = toJobOptions(flags);
  const body = { model, runtime, source, sha256, kind, ...more, ...(job ? { job } : {}) };
  return { headers: toRequestHeaders(flags), body: JSON.stringify(body) };
}
