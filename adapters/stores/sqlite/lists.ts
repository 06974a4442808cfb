// Lists and counts of jobs, each from an index that holds them in its order; never from what was asked or came out.
import type { DatabaseSync } from 'node:sqlite';
import { priorities, type JobHead, type JobQuery, type JobState } from '../../../src/store.ts';
import { fromCursor, toCursor, toHead, toState, JOB, prepareJobs } from './rows.ts';
import { states } from './schema.ts';

export interface Lists {
  page(query: JobQuery): { jobs: JobHead[]; next?: string };
  /** Of a batch, or of all jobs. */
  counts(batch?: string): Record<JobState, number>;
  /** Jobs of a caller that wait. */
  waiting(owner: string): number;
  running(): JobHead[];
  overdue(now: number, limit: number): JobHead[];
  nextAt(): number | undefined;
}

export function createLists(db: DatabaseSync): Lists {
  const page = (where: string) =>
    db.prepare(
      `SELECT seq FROM job WHERE ${where} AND state = :state AND seq < :before ORDER BY seq DESC LIMIT :limit`,
    );
  // The unary plus keeps the planner from an index that would have to be searched and then sorted.
  const pages = {
    all: page('owner = :owner'),
    capability: page('owner = :owner AND capability = :capability'),
    batch: page('batch = :batch AND +owner = :owner'),
    both: page('batch = :batch AND +owner = :owner AND +capability = :capability'),
  };
  const heads = prepareJobs(db, `SELECT ${JOB} FROM job WHERE seq IN (SELECT value FROM json_each(?))`);
  const tally = db.prepare('SELECT key AS state, n FROM tally WHERE scope = ?');
  const queue = db.prepare("SELECT n FROM tally WHERE scope = 'queue' AND key = ?");
  const active = prepareJobs(db, `SELECT ${JOB} FROM job WHERE state = 1 ORDER BY seq`);
  const late = prepareJobs(db, `SELECT ${JOB} FROM job WHERE wait > 0 AND deadline <= ? ORDER BY deadline LIMIT ?`);
  const nextDeadline = db.prepare(
    'SELECT deadline AS at FROM job WHERE wait > 0 AND deadline IS NOT NULL ORDER BY deadline LIMIT 1',
  );
  const nextReady = db.prepare('SELECT run_at AS at FROM job WHERE wait = 1 LIMIT 1');
  const nextLater = db.prepare('SELECT run_at AS at FROM job WHERE wait = 2 AND class = ? ORDER BY run_at LIMIT 1');

  return {
    page({ owner, states: wanted = [...states], capability, batch, cursor, limit }) {
      const by =
        batch === undefined
          ? capability === undefined
            ? 'all'
            : 'capability'
          : capability === undefined
            ? 'batch'
            : 'both';
      const filter = {
        owner,
        before: fromCursor(cursor),
        limit: limit + 1,
        ...(capability !== undefined && { capability }),
        ...(batch !== undefined && { batch }),
      };
      // One seek for each state and the newest of all of them: a filter on many states would read and sort them all.
      const seqs = [...new Set(wanted)]
        .flatMap((state) => pages[by].all({ ...filter, state: toState(state) }) as { seq: number }[])
        .map(({ seq }) => seq)
        .toSorted((a, b) => b - a);
      const shown = seqs.slice(0, limit);
      const rows = heads.all(JSON.stringify(shown));
      const jobs = rows.toSorted((a, b) => b.seq - a.seq).map(toHead);
      return seqs.length > limit && shown.length > 0 ? { jobs, next: toCursor(shown.at(-1)!) } : { jobs };
    },
    counts(batch) {
      const counts: Record<JobState, number> = { queued: 0, running: 0, done: 0, failed: 0, cancelled: 0 };
      for (const { state, n } of tally.all(batch === undefined ? 'jobs' : `batch ${batch}`) as {
        state: number;
        n: number;
      }[])
        counts[states[state]!] = n;
      return counts;
    },
    waiting: (owner) => (queue.get(owner) as { n: number } | undefined)?.n ?? 0,
    running: () => active.all().map(toHead),
    overdue: (now, limit) => late.all(now, limit).map(toHead),
    nextAt() {
      const rows = [nextDeadline.get(), nextReady.get(), ...priorities.map((_, rank) => nextLater.get(rank))];
      const times = rows.map((row) => (row as { at: number } | undefined)?.at);
      const known = times.filter((at) => at !== undefined);
      return known.length === 0 ? undefined : Math.min(...known);
    },
  };
}
