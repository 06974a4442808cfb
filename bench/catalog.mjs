// What lists of models cost with few and with very many models: times of answers over HTTP and of finding who answers, and how often the runtime was asked.
//
//   node bench/catalog.mjs [--sizes 100,10000] [--requests 300] [--json]
//
// One gateway for each size, each a process of its own, asked in turns; its runtime is a server in this process that counts what it
// is asked. Times are those of a whole answer on one kept connection. The whole list grows with the number of models, so its ratio
// is for the bytes; what a client is spared by asking with the tag of what it has, or by pages, is beside it.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { createCatalog } from '../src/catalog.ts';
import { openServed } from '../tests/support/gateway.ts';
import { digits, table } from './table.mjs';

const { values } = parseArgs({
  options: {
    sizes: { type: 'string', default: '100,10000' },
    requests: { type: 'string', default: '300' },
    json: { type: 'boolean', default: false },
  },
});
const sizes = values.sizes.split(',').map(Number);
const requests = Number(values.requests);
/** Milliseconds that a list is good for, so that renewals fall into the measurement. */
const CATALOG_MS = 2000;
const WARM_UP = 30;
/** Finding who answers takes microseconds: so many at once make one sample. */
const TOGETHER = 100;

const name = (index) => `org/model-${index}:q4`;
const aliases = { 'gpt-4o': ['gone', name(7)] };

const cells = {
  'GET /v1/models': () => ['/v1/models'],
  'GET /v1/models, unchanged (304)': ({ etag }) => ['/v1/models', { 'if-none-match': etag }],
  'GET /v1/models?limit=20': () => ['/v1/models?limit=20'],
  'GET /v1/models/{id}': ({ size }, n) => [`/v1/models/${name((n * 37) % size)}`],
  'GET /models/{id}': ({ size }, n) => [`/models/${name((n * 37) % size)}`],
  'GET /models?q=model-7&limit=20': () => ['/models?q=model-7&limit=20'],
};
const finds = {
  'resolve a named model': ({ catalog, size }, n) => catalog.resolve('text.chat', name((n * 37) % size)),
  'resolve an alias': ({ catalog }) => catalog.resolve('text.chat', 'gpt-4o'),
  'resolve a default': ({ catalog }) => catalog.resolve('text.chat', undefined),
};

const subjects = [];
try {
  for (const size of sizes) subjects.push(await open(size));
  const results = {};
  for (const [cell, toRequest] of Object.entries(cells)) {
    results[cell] = await measure(requests, (subject, n) => ask(subject, ...toRequest(subject, n)));
  }
  for (const [cell, find] of Object.entries(finds)) {
    const perCall = (subject, n) => together(() => find(subject, n));
    results[cell] = await measure(requests, perCall, TOGETHER);
  }
  const asked = subjects.map((subject) => subject.report());
  if (values.json) console.log(JSON.stringify({ sizes, requests, results, asked }, undefined, 2));
  else print(results, asked);
} finally {
  for (const subject of subjects) await subject.close();
}

async function open(size) {
  const runtime = await openRuntime(size);
  const gateway = await openServed('node', {
    runtimes: [{ name: 'many', kind: 'openai', url: runtime.url }],
    aliases,
    env: { HONO_AI_EMBEDDED: 'false', HONO_AI_CATALOG_MS: String(CATALOG_MS) },
  });
  const first = await gateway.request('/v1/models');
  const bytes = (await first.text()).length;
  const begun = performance.now();
  const asked = runtime.lists();
  const models = Array.from({ length: size }, (_, n) => ({ id: name(n), capabilities: ['text.chat'], state: 'ready' }));
  const runtimes = [{ name: 'many', priority: 1, handles: {}, health: async () => {}, models: async () => models }];
  const catalog = createCatalog({ runtimes, aliases, ttlMs: 3_600_000, deadlineMs: 10_000 });
  await catalog.list();
  return {
    size,
    catalog,
    url: gateway.url,
    etag: first.headers.get('etag'),
    report: () => ({
      size,
      bytes,
      lists: runtime.lists() - asked,
      renewals: Math.ceil((performance.now() - begun) / CATALOG_MS),
    }),
    async close() {
      await gateway.close();
      await runtime.close();
    },
  };
}

async function openRuntime(size) {
  const data = Array.from({ length: size }, (_, index) => ({ id: name(index), object: 'model', owned_by: 'bench' }));
  const body = JSON.stringify({ object: 'list', data });
  let lists = 0;
  const server = createServer((request, response) => {
    const isList = request.url === '/v1/models';
    if (isList) lists++;
    response.writeHead(isList ? 200 : 404, { 'content-type': 'application/json' }).end(isList ? body : '{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}/v1`,
    lists: () => lists,
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function ask({ url }, path, headers = {}) {
  const response = await fetch(url + path, { headers });
  await response.arrayBuffer();
  if (response.status !== 200 && response.status !== 304) throw new Error(`${path}: ${response.status}`);
}

async function together(find) {
  for (let n = 0; n < TOGETHER; n++) await find();
}

/** Sizes take turns, so that whatever else the machine does falls on all of them. */
async function measure(count, work, divisor = 1) {
  const times = subjects.map(() => []);
  for (let n = 0; n < count + WARM_UP; n++) {
    for (const [index, subject] of subjects.entries()) {
      const begun = performance.now();
      await work(subject, n);
      if (n >= WARM_UP) times[index].push(((performance.now() - begun) * 1000) / divisor);
    }
  }
  return times.map((each) => {
    const sorted = each.toSorted((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
    return { p50: at(0.5), p99: at(0.99) };
  });
}

function print(results, asked) {
  const heads = ['', ...sizes.flatMap((size) => [`${size}: p50 us`, 'p99 us']), 'p50 ratio', 'p99 ratio'];
  const rows = Object.entries(results).map(([cell, times]) => [
    cell,
    ...times.flatMap(({ p50, p99 }) => [digits(p50), digits(p99)]),
    digits(times.at(-1).p50 / times[0].p50),
    digits(times.at(-1).p99 / times[0].p99),
  ]);
  console.log(table(heads, rows));
  for (const { size, bytes, lists, renewals } of asked) {
    console.log(
      `\n${size} models, ${bytes} bytes: ${lists} lists asked of the runtime while ${renewals} renewals were due.`,
    );
  }
}
