// What a job costs our SQLite store with few and with very many jobs waiting, beside BullMQ on a Redis of the same machine.
//
//   node bench/jobs.mjs [--sizes 1000,1000000] [--stores sqlite,bullmq] [--operations 2000] [--json]
//
// CPU is user and system time of this process and of the Redis server. SQLite flushes every commit to the disk (synchronous=FULL);
// Redis keeps its default for BullMQ, one flush a second, so up to a second of accepted jobs can be lost there.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { openSqliteStore } from '../adapters/stores/sqlite/index.ts';

const { values } = parseArgs({
  options: {
    sizes: { type: 'string', default: '1000,1000000' },
    stores: { type: 'string', default: 'sqlite,bullmq' },
    operations: { type: 'string', default: '2000' },
    json: { type: 'boolean', default: false },
  },
});
const sizes = values.sizes.split(',').map(Number);
const operations = Number(values.operations);
const owners = ['anna', 'ben', 'cleo', 'dan'];
const priorities = ['interactive', 'normal', 'background'];
const input = { prompt: 'x'.repeat(200), model: 'sdxl', steps: 20 };
const LOAD = 5000;
const PAGE = 50;
const LANES = 64;
const WARM_UP = 300;

const stores = {
  async sqlite(dir) {
    const path = join(dir, `jobs-${crypto.randomUUID()}.db`);
    let store = await openSqliteStore({ path });
    const toJob = (n) => ({
      id: `job_${crypto.randomUUID().replaceAll('-', '')}`,
      owner: owners[n % owners.length],
      capability: n % 3 ? 'image.generate' : 'text.chat',
      priority: priorities[n % priorities.length],
      createdAt: Date.now(),
      runAt: Date.now(),
      maxAttempts: 3,
      limits: { queue: 86_400_000, run: 3_600_000, total: 172_800_000 },
      notes: { metadata: { n } },
      input,
    });
    let cursors = [];
    return {
      load: (from, amount) => store.jobs.add(Array.from({ length: amount }, (_, n) => toJob(from + n))),
      async settle() {
        await store.close();
        const start = performance.now();
        store = await openSqliteStore({ path });
        return { open_ms: performance.now() - start, bytes: statSync(path).size };
      },
      enqueue: (n) => store.jobs.add([toJob(n)]),
      async work() {
        const job = await store.jobs.claim('bench', Date.now());
        await store.jobs.finish(job, { state: 'done', at: Date.now(), result: { ok: true } });
      },
      /** Pages of one caller, one after the other, as a person pages. */
      async list(n) {
        const cursor = n % 20 ? cursors.at(-1) : undefined;
        const page = await store.jobs.list({ owner: owners[0], limit: PAGE, ...(cursor ? { cursor } : {}) });
        cursors = [page.next];
      },
      close: () => store.close(),
    };
  },
  async bullmq(dir) {
    const redis = await startRedis(dir);
    const { Queue, Worker } = await import('bullmq');
    const connection = { host: '127.0.0.1', port: redis.port, maxRetriesPerRequest: null };
    const queue = new Queue('bench', { connection });
    await queue.waitUntilReady();
    const worker = new Worker('bench', null, { connection, autorun: false });
    await worker.waitUntilReady();
    const toJob = (n) => ({
      name: n % 3 ? 'image.generate' : 'text.chat',
      data: { input, owner: owners[n % owners.length], notes: { metadata: { n } } },
      opts: { priority: (n % priorities.length) + 1, jobId: `job_${crypto.randomUUID().replaceAll('-', '')}` },
    });
    let token = 0;
    return {
      pid: redis.pid,
      load: (from, amount) => queue.addBulk(Array.from({ length: amount }, (_, n) => toJob(from + n))),
      settle: async () => ({ open_ms: undefined, bytes: readMemory(redis.pid) }),
      enqueue(n) {
        const { name, data, opts } = toJob(n);
        return queue.add(name, data, opts);
      },
      async work() {
        const job = await worker.getNextJob(`t${token++}`, { block: false });
        await job.moveToCompleted({ ok: true }, job.token, false);
      },
      /** It has no lists by caller: a page of what waits is the nearest thing. */
      list: (n) => queue.getJobs(['prioritized'], (n % 20) * PAGE, (n % 20) * PAGE + PAGE - 1),
      async close() {
        await worker.close();
        await queue.close();
        await redis.stop();
      },
    };
  },
};

const rows = [];
const dir = mkdtempSync(join(tmpdir(), 'bench-jobs-'));
try {
  for (const name of toStores()) for (const size of sizes) rows.push(...(await measure(name, size)));
} finally {
  rmSync(dir, { recursive: true, force: true });
}
if (values.json) console.log(JSON.stringify({ operations, rows, ratios: toRatios() }, undefined, 2));
else print();

/** Every cost at one size of the backlog. */
async function measure(name, size) {
  const store = await stores[name](dir);
  try {
    const begun = performance.now();
    for (let n = 0; n < size; n += LOAD) await store.load(n, Math.min(LOAD, size - n));
    const load_s = (performance.now() - begun) / 1000;
    const about = await store.settle();
    note(`${name}: ${size} jobs in ${load_s.toFixed(1)} s`);
    // Collections of what the load left behind are not a cost of what is measured.
    globalThis.gc?.();
    await sleep(1000);
    const costs = {
      enqueue: (n) => store.enqueue(n),
      'claim+finish': () => store.work(),
      'list page': (n) => store.list(n),
    };
    const measured = [];
    for (const [operation, act] of Object.entries(costs)) {
      for (const lanes of operation === 'list page' ? [1] : [1, LANES]) {
        // Every claim is refilled, so that the backlog stays what it says.
        if (operation === 'claim+finish') await store.load(size, operations + WARM_UP);
        measured.push({
          store: name,
          size,
          operation,
          lanes,
          ...(await cost(act, lanes, store.pid)),
          load_s,
          ...about,
        });
      }
    }
    return measured;
  } finally {
    await store.close();
  }
}

/** CPU of both processes per operation, and how long each took, with `lanes` at a time. */
async function cost(act, lanes, pid) {
  for (let n = 0; n < WARM_UP; n++) await act(n);
  const times = [];
  let next = 0;
  const server = pid === undefined ? 0 : readCpu(pid);
  const cpu = process.cpuUsage();
  const start = performance.now();
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      while (next < operations) {
        const n = next++;
        const begun = performance.now();
        await act(n);
        times.push((performance.now() - begun) * 1000);
      }
    }),
  );
  const wall = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  times.sort((a, b) => a - b);
  return {
    cpu_us: (user + system) / operations,
    server_cpu_us: pid === undefined ? 0 : (readCpu(pid) - server) / operations,
    p50_us: times[times.length >> 1],
    p99_us: times[Math.floor(times.length * 0.99)],
    per_s: operations / (wall / 1000),
  };
}

async function startRedis(folder) {
  const port = await toFreePort();
  const child = spawn(
    'redis-server',
    [
      '--port',
      port,
      '--bind',
      '127.0.0.1',
      '--dir',
      folder,
      '--save',
      '',
      '--appendonly',
      'yes',
      '--appendfsync',
      'everysec',
    ]
      .concat(['--appenddirname', `aof-${port}`, '--maxmemory-policy', 'noeviction'])
      .map(String),
    { stdio: 'ignore' },
  );
  for (let n = 0; n < 200 && !(await isOpen(port)); n++) await sleep(25);
  return {
    port,
    pid: child.pid,
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}

function toFreePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function isOpen(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function toStores() {
  const wanted = values.stores.split(',');
  if (!wanted.includes('bullmq') || spawnSync('redis-server', ['--version']).status === 0) return wanted;
  note('bullmq is left out: redis-server is not installed');
  return wanted.filter((name) => name !== 'bullmq');
}

/** Microseconds of CPU that a process has had; the kernel counts in hundredths of a second. */
function readCpu(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

function readMemory(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))[1]) * 1024;
}

/** The cost with most jobs waiting over the cost with fewest. */
function toRatios() {
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  const small = rows.filter(({ size }) => size === least);
  return small.map(({ store, operation, lanes, ...before }) => {
    const after = rows.find(
      (row) => row.store === store && row.operation === operation && row.lanes === lanes && row.size === most,
    );
    const cpu = (row) => row.cpu_us + row.server_cpu_us;
    return {
      store,
      operation,
      lanes,
      cpu: cpu(after) / cpu(before),
      p50: after.p50_us / before.p50_us,
      p99: after.p99_us / before.p99_us,
    };
  });
}

function print() {
  const whole = (value) => Math.round(value).toLocaleString('en');
  console.log('| store | waiting | operation | at a time | CPU µs (client + server) | p50 µs | p99 µs | per s |');
  console.log('|---|---|---|---|---|---|---|---|');
  for (const row of rows) {
    const cpu = `${row.cpu_us.toFixed(1)} + ${row.server_cpu_us.toFixed(1)}`;
    const cells = [
      row.store,
      whole(row.size),
      row.operation,
      row.lanes,
      cpu,
      whole(row.p50_us),
      whole(row.p99_us),
      whole(row.per_s),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
  console.log(`\nCost at ${whole(Math.max(...sizes))} over cost at ${whole(Math.min(...sizes))}:\n`);
  console.log('| store | operation | at a time | CPU | p50 | p99 |\n|---|---|---|---|---|---|');
  for (const { store, operation, lanes, cpu, p50, p99 } of toRatios()) {
    console.log(`| ${store} | ${operation} | ${lanes} | ${cpu.toFixed(2)} | ${p50.toFixed(2)} | ${p99.toFixed(2)} |`);
  }
  for (const { store, size, load_s, open_ms, bytes } of rows.filter(
    ({ operation, lanes }) => operation === 'enqueue' && lanes === 1,
  )) {
    const open = open_ms === undefined ? '' : `, opened in ${open_ms.toFixed(0)} ms`;
    console.log(`\n${store}, ${whole(size)}: loaded in ${load_s.toFixed(1)} s, ${whole(bytes / 1e6)} MB${open}`);
  }
}

function note(text) {
  process.stderr.write(`${text}\n`);
}
