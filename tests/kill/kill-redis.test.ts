// The same on a real Redis, in smaller numbers: gateways are killed while they work, and nothing accepted is lost or done twice.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCountingRuntime, type CountingRuntime } from '../support/counting-runtime.ts';
import { createRandom } from '../support/kill-ledger.ts';
import { openReceiver, type Receiver } from '../support/kill-receiver.ts';
import { storm, toMedian, toSummary, type Storm } from '../support/kill-storm.ts';
import { startRedis, withoutRedis, type RedisServer } from '../support/redis.ts';

const kills = Number(process.env['HONO_AI_KILLS_REDIS'] ?? 40);
const seed = Number(process.env['HONO_AI_KILL_SEED'] ?? Date.now() % 1_000_000);
const NODE_SHARE = 0.4;
const READY_MS = 2000;
const LIMIT_MS = 600_000;

describe.skipIf(withoutRedis !== undefined)(`a gateway on Redis that is killed again and again${why()}`, () => {
  const servers: RedisServer[] = [];
  let runtime: CountingRuntime;
  let receiver: Receiver;
  let storms: Storm[] = [];

  beforeAll(async () => {
    runtime = await openCountingRuntime();
    receiver = await openReceiver(createRandom(seed));
    const onNode = Math.ceil(kills * NODE_SHARE);
    storms = await Promise.all(
      (['node', 'bun'] as const).map(async (engine, index) => {
        const server = await startRedis();
        servers.push(server);
        return storm({
          engine,
          kills: engine === 'node' ? onNode : kills - onNode,
          name: `redis-${engine}`,
          seed: seed + index,
          runtime,
          receiver,
          env: { HONO_AI_REDIS_URL: server.url },
        });
      }),
    );
    for (const one of storms) console.log(`seed ${seed}: on Redis, ${toSummary(one)}`);
  }, LIMIT_MS);

  afterAll(async () => {
    for (const one of storms) await one.close();
    for (const server of servers) await server.close();
    await runtime.close();
    await receiver.close();
  });

  it('loses nothing, ends everything once, and doubles nothing', () => {
    for (const { violations } of storms) expect(violations).toEqual([]);
  });

  it('had work in flight when it died', () => {
    for (const { findings } of storms) expect(findings.again).toBeGreaterThan(0);
  });

  it('is ready again within two seconds of a start', () => {
    for (const { ready } of storms) expect(toMedian(ready)).toBeLessThanOrEqual(READY_MS);
  });
});

function why(): string {
  return withoutRedis === undefined ? '' : ` (${withoutRedis})`;
}
