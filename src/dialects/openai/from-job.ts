// Answers that are made of what a job made, each time they are asked for: too large, or not text, to be kept with an Idempotency-Key.
import type { AppContext } from '../../http/context.ts';
import { idempotent } from '../../http/idempotency.ts';
import { runAsJob, toRunHeaders, toWarningHeader, type JobRequest, type JobWords } from '../../http/job.ts';
import { toPreference } from '../../http/prefer.ts';
import { respondJson, toErrorBody } from '../../http/respond.ts';
import type { JobNotes } from '../../jobs/options.ts';
import type { JobView } from '../../jobs/view.ts';

/** What a job remembers of a request in OpenAI's words. */
export interface AskedNote {
  /** What the dialect itself could not honour. */
  warnings: string[];
}

export interface Made<Note extends AskedNote> {
  job: JobView;
  note: Note;
  /** What ran, and what could not be honoured. */
  headers: Record<string, string>;
}

export interface MediaRoute<Note extends AskedNote> {
  /** The job to be done. `tell` is there where the answer may be streamed. */
  take(c: AppContext): Promise<Pick<JobRequest, 'capability' | 'input'> & { note: Note; tell?: JobWords['tell'] }>;
  /** The answer to a request whose job is done. */
  render(c: AppContext, made: Made<Note>): Promise<Response>;
  /** What tells one request from another. */
  print(c: AppContext): Promise<Uint8Array<ArrayBuffer>>;
}

/** The handler of a route that waits for its job, or streams it, or leaves it at 202 as `Prefer` says. */
export function answerFromJob<Note extends AskedNote>(route: MediaRoute<Note>): ReturnType<typeof idempotent> {
  const take = idempotent(async (c) => {
    const { capability, input, note, tell } = await route.take(c);
    warn(c, note.warnings);
    return runAsJob(c, {
      capability,
      input,
      options: undefined,
      preference: toPreference(c.req.header('prefer')),
      stream: tell !== undefined,
      dialect: { openai: note },
      words: {
        // With a key only this is kept; the header says which job it was.
        answer: async ({ id }) => respondJson(c, { job: id }),
        tell: tell ?? (() => []),
        fail: (error) => `data: ${JSON.stringify(toErrorBody(error, c.var.requestId))}\n\n`,
      },
    });
  }, route.print);
  return async (c, next) => {
    const taken = (await take(c, next)) as Response;
    const id = taken.headers.get('x-job-id');
    const isDone = taken.status === 200 && taken.headers.get('content-type')?.startsWith('application/json');
    if (!isDone || id === null) return taken;
    const replayed = taken.headers.get('idempotent-replayed');
    const made = await findMade<Note>(c, id);
    if (replayed !== null) made.headers['idempotent-replayed'] = replayed;
    return route.render(c, made);
  };
}

/** A warning for every answer to this request, whichever it is. */
export function warn(c: AppContext, warnings: string[]): void {
  Object.assign(c.var.headers, toWarningHeader(warnings));
}

async function findMade<Note extends AskedNote>(c: AppContext, id: string): Promise<Made<Note>> {
  const { jobs } = c.var.app;
  const { caller } = c.var;
  const [job, record] = await Promise.all([jobs.get(caller, id), jobs.record(caller, id)]);
  const note = toNote<Note>(record.notes)!;
  const headers = { ...toRunHeaders({ ...job, warnings: [...note.warnings, ...job.warnings] }), 'x-job-id': id };
  return { job, note, headers };
}

export function toNote<Note>(notes: object): Note | undefined {
  return (notes as JobNotes).dialect?.['openai'] as Note | undefined;
}
