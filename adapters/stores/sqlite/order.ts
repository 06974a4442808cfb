// Who is next: classes are strict, and within one the callers take turns, by a number that each job is given when it comes.
import type { DatabaseSync } from 'node:sqlite';
import { priorities } from '../../../src/store.ts';
import { LATER, READY, type JobRow } from './rows.ts';

/**
 * A caller's next job gets the tag after its last waiting one, but none lower than the tag that was claimed last: many
 * jobs of one caller stand in a row, and whoever comes later stands beside the first of them. The smallest tag is next.
 */
export interface Order {
  /** The place of a job that waits from now on, or goes back to wait with the tag it had. To be called in a transaction. */
  place(job: Pick<JobRow, 'class' | 'owner' | 'tag'>, ready: boolean): { wait: number; tag: number | null };
  /** The next job to start by `now`. To be called in a transaction; the caller takes it off the queue. */
  next(now: number): Next | undefined;
  /** Writes down whose turn it was. */
  taken(job: Next): void;
  /** How many start before it, and itself, up to `most`. */
  position(job: JobRow, most: number): number;
}

type Next = Pick<JobRow, 'seq' | 'class'> & { tag: number };

/** Due jobs that one claim lets in, of each class; more would make that claim slow. */
const PROMOTED = 100;

export function createOrder(db: DatabaseSync): Order {
  const current = db.prepare("SELECT n AS tag FROM tally WHERE scope = 'turn' AND key = ?");
  const advance = db.prepare("UPDATE tally SET n = ? WHERE scope = 'turn' AND key = ? AND n < ?");
  const last = db.prepare('SELECT tag FROM job WHERE wait = 1 AND class = ? AND owner = ? ORDER BY tag DESC LIMIT 1');
  const due = db.prepare(
    'SELECT seq, class, owner, tag FROM job WHERE wait = 2 AND class = ? AND run_at <= ? ORDER BY run_at, seq LIMIT ?',
  );
  const promote = db.prepare('UPDATE job SET wait = 1, tag = ? WHERE seq = ?');
  const first = db.prepare('SELECT seq, class, tag FROM job WHERE wait = 1 AND class = ? ORDER BY tag, seq LIMIT 1');
  const before = db.prepare(`SELECT count(*) AS n FROM (SELECT 1 FROM job WHERE wait = 1 AND class < ? LIMIT ?)`);
  const beside = db.prepare(
    `SELECT count(*) AS n FROM (SELECT 1 FROM job WHERE wait = 1 AND class = ? AND (tag, seq) < (?, ?) LIMIT ?)`,
  );

  function toTag(job: Pick<JobRow, 'class' | 'owner' | 'tag'>): number {
    if (job.tag !== null) return job.tag;
    const { tag: turn } = current.get(job.class) as { tag: number };
    const own = last.get(job.class, job.owner) as { tag: number } | undefined;
    return Math.max(turn, own?.tag ?? 0) + 1;
  }

  return {
    place: (job, ready) => (ready ? { wait: READY, tag: toTag(job) } : { wait: LATER, tag: job.tag }),
    next(now) {
      for (let rank = 0; rank < priorities.length; rank++) {
        for (const job of due.all(rank, now, PROMOTED) as unknown as JobRow[]) promote.run(toTag(job), job.seq);
        const row = first.get(rank) as Next | undefined;
        if (row) return row;
      }
      return undefined;
    },
    taken(job) {
      advance.run(job.tag, job.class, job.tag);
    },
    position(job, most) {
      const ahead = (before.get(job.class, most) as { n: number }).n;
      const same = (beside.get(job.class, toTag(job), job.seq, most) as { n: number }).n;
      return Math.min(ahead + same + 1, most);
    },
  };
}
