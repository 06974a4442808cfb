// What may be said about a job beside what it is to make: flags → the `job` member of a request, and its headers.
import { priorities } from '../src/store.ts';
import type { JobView } from '../src/jobs/view.ts';
import type { Flag, Invocation } from './command.ts';
import { usageError } from './exit.ts';

export const jobFlags: Record<string, Flag> = {
  priority: {
    type: 'enum',
    options: [...priorities],
    valueHint: 'CLASS',
    description: 'Its class; a waiting interactive job always goes first.',
  },
  delay: {
    type: 'string',
    valueHint: 'SECONDS',
    description: 'Do not start before this many seconds have passed.',
    read(text) {
      const value = Number(text);
      if (text.trim() === '' || !(value >= 0)) throw new Error('a number of seconds');
      return value;
    },
  },
  webhook: { type: 'string', valueHint: 'URL', description: 'An address that is called once the job has ended.' },
};

export const requestFlags: Record<string, Flag> = {
  'idempotency-key': {
    type: 'string',
    valueHint: 'KEY',
    description: 'The same request under the same key is done once, however often it is sent.',
  },
  cache: { type: 'boolean', negated: true, description: 'Make it anew, even where the same was made before.' },
};

/** Of every capability: keep the request as a job and leave. */
export const detachFlags: Record<string, Flag> = {
  detach: { type: 'boolean', description: 'Do not wait: print the id of a job, which `jobs` commands follow.' },
  ...jobFlags,
  ...requestFlags,
};

/** Fields of the `job` member; undefined where none was given. */
export function toJobOptions(flags: Record<string, unknown>): Record<string, unknown> | undefined {
  const { priority, delay, webhook } = flags;
  const options = {
    ...(priority === undefined ? {} : { priority }),
    ...(delay === undefined ? {} : { delay_s: delay }),
    ...(webhook === undefined ? {} : { webhook }),
  };
  return Object.keys(options).length > 0 ? options : undefined;
}

export function toRequestHeaders(flags: Record<string, unknown>): Record<string, string> {
  const key = flags['idempotency-key'] as string | undefined;
  if (key !== undefined && !/^[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?$/.test(key)) {
    throw usageError('--idempotency-key: must be 1 to 255 printable ASCII characters.');
  }
  return {
    ...(key === undefined ? {} : { 'idempotency-key': key }),
    ...(flags['cache'] === false ? { 'cache-control': 'no-cache' } : {}),
  };
}

/** Throws a usage error for flags of a job where there is to be none. */
export function refuseJobFlags({ flags }: Invocation): void {
  const odd = Object.keys(jobFlags).find((name) => flags[name] !== undefined);
  if (odd !== undefined) throw usageError(`--${odd} is about a job.`, 'Add --detach to make one.');
}

/** How to go on with a job that was taken. */
export function toNextSteps({ id, state, position }: JobView, served: boolean): string {
  const place = position === null || position === undefined ? '' : `, position ${position}`;
  const kept = `${state}${place}. Wait for it: hono-ai jobs wait ${id}; then: hono-ai jobs download ${id}`;
  return served ? kept : `${kept}\nNo gateway is running: the job is kept and starts with one: hono-ai serve`;
}
