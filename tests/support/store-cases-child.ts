// A process that works on a SQLite store and may be killed at any time: it prints what is on disk, once it is.
import { writeSync } from 'node:fs';
import { openDatabase } from '../../adapters/stores/sqlite/database.ts';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { migrations } from '../../adapters/stores/sqlite/schema.ts';
import type { Store } from '../../src/store.ts';
import { toJob, toPut } from './store-cases-helpers.ts';

const [role, path, amount] = process.argv.slice(2) as [keyof typeof roles, string, string | undefined];

/** Straight to the pipe: what a stream still held would be lost with the process. */
const say = (what: string, id: string) => writeSync(1, `${what} ${id}\n`);

/** A migration that does not end: it writes until it is killed. */
export const ENDLESS = `
  CREATE TABLE half (n INTEGER);
  ALTER TABLE job ADD COLUMN half TEXT;
  INSERT INTO half WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up LIMIT 1000000000) SELECT n FROM up;
`;

const roles = {
  /** Takes, claims and ends jobs, several at a time, until it is killed. */
  async writer(store: Store) {
    for (;;) {
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          const job = toJob({ input: { text: 'x'.repeat(2000) } });
          await store.jobs.add([job]);
          say('added', job.id);
          const claimed = await store.jobs.claim('w1', Date.now());
          if (!claimed) return;
          const made = toPut(claimed.id, { if: 'absent' });
          const ended = await store.jobs.finish(claimed, { state: 'done', at: Date.now(), result: claimed.id }, [made]);
          if (ended) say('ended', claimed.id);
        }),
      );
    }
  },
  /** One operation after the other, `amount` of them; says how long each commit took. */
  async worker(store: Store) {
    for (let n = 0; n < Number(amount); n += 3) {
      await timed(() => store.jobs.add([toJob()]));
      const job = await timed(() => store.jobs.claim(`w${process.pid}`, Date.now()));
      if (job) await timed(() => store.jobs.finish(job, { state: 'done', at: Date.now() }, [toPut(job.id)]));
    }
    say('finished', path);
  },
  async reader(store: Store) {
    for (let n = 0; n < Number(amount); n += 4) {
      const { jobs } = await store.jobs.list({ owner: 'anna', limit: 20 });
      await store.jobs.counts();
      await store.jobs.running();
      if (jobs[0]) await store.jobs.position(jobs[0].id, 100);
    }
    say('finished', path);
  },
  /** Forces what SQLite does now and then by itself. */
  async checkpointer() {
    const { db } = await openDatabase({ path });
    for (let n = 0; n < Number(amount); n++) {
      db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    db.close();
    say('finished', path);
  },
  async migrate() {
    say('migrating', path);
    await openDatabase({ path, migrations: [...migrations, ENDLESS] });
  },
};

async function timed<T>(act: () => Promise<T>): Promise<T> {
  const start = performance.now();
  const answer = await act();
  say('took', (performance.now() - start).toFixed(2));
  return answer;
}

if (role === 'migrate' || role === 'checkpointer') await roles[role]();
else {
  const store = await openSqliteStore({ path });
  say('open', path);
  await roles[role](store);
  await store.close();
}
