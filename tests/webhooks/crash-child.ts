// A gateway's webhooks in a process of their own, which dies after the receiver has answered where it is told to.
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import { createGuardedSend } from '../../adapters/transports/guarded.ts';
import { createWebhooks } from '../../src/webhooks/webhooks.ts';

const { path, url, dies, laterMs } = JSON.parse(process.argv[2]!) as {
  path: string;
  /** Where to announce a job; absent: only what is there already is sent. */
  url?: string;
  dies: boolean;
  /** How far the clock has moved on. */
  laterMs: number;
};

const store = await openSqliteStore({ path });
const webhooks = createWebhooks({
  documents: store.documents,
  send: createGuardedSend({ allow: ['127.0.0.1'] }),
  now: () => Date.now() + laterMs,
  log: () => {},
  timeoutMs: 2000,
  concurrency: 4,
  keepMs: 86_400_000,
  failpoint: (name) => {
    if (dies && name === 'webhook sent') process.kill(process.pid, 'SIGKILL');
  },
});
if (url !== undefined) {
  await store.documents.put(await webhooks.announce({ type: 'job.done', owner: 'anna', data: {}, url }));
}
webhooks.start();
const end = performance.now() + 10_000;
for (;;) {
  const { deliveries } = await webhooks.deliveries.list('anna', { state: 'delivered', limit: 1 });
  if (deliveries[0]) {
    console.log(JSON.stringify(deliveries[0]));
    break;
  }
  if (performance.now() > end) throw new Error('nothing was delivered');
  await new Promise((resolve) => setTimeout(resolve, 20));
}
await webhooks.stop();
await store.close();
