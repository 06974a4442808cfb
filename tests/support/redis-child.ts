// A gateway's use of a Redis store in a process of its own, which kills or stops itself at the nth command that it sends to Redis.
import { writeSync } from 'node:fs';
import { Redis } from 'ioredis';
import { openRedisStore } from '../../adapters/stores/redis/index.ts';
import { toJob, toPut } from './store-cases-helpers.ts';

const [url = '', journalPath = '', nth = '0', signal = 'SIGKILL'] = process.argv.slice(2);

/** Straight to the pipe: what a stream still held would be lost with the process. */
const say = (what: string, id = '') => writeSync(1, `${what} ${id}\n`);

/** Odd numbers mean before a command leaves, even ones once it is answered. */
function endAt(place: number): void {
  let count = 0;
  const end = () => process.kill(process.pid, signal);
  // oxlint-disable-next-line typescript/unbound-method -- it is called on the connection again
  const send = Redis.prototype.sendCommand;
  Redis.prototype.sendCommand = function (this: Redis, command, ...rest) {
    // The connection that reads events asks on its own account.
    if (command.name === 'xread') return send.call(this, command, ...rest);
    const before = ++count === place;
    const after = ++count === place;
    if (before) end();
    const answer = send.call(this, command, ...rest);
    if (after) (answer as Promise<unknown>).then(end, end);
    return answer;
  };
}

const store = await openRedisStore({ url, journalPath });
if (nth !== '0') endAt(Number(nth));
const [first, second] = [toJob(), toJob()];
await store.jobs.add([first, second]);
say('added', first.id);
say('added', second.id);
for (let n = 0; n < 2; n++) {
  const job = await store.jobs.claim('child', Date.now());
  if (!job) continue;
  say('claimed', job.id);
  if (n === 0 && job.attempts < 2) await store.jobs.requeue(job, { runAt: Date.now() });
  else if (await store.jobs.finish(job, { state: 'done', at: Date.now() }, [toPut(job.id, { if: 'absent' })])) {
    say('ended', job.id);
  }
}
say('whole');
await store.close();
process.exit(0);
