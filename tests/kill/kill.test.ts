// Gateways are killed hundreds of times (as often as HONO_AI_KILLS says), at random and at failpoints, while they work: nothing accepted is lost or done twice.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCountingRuntime, type CountingRuntime } from '../support/counting-runtime.ts';
import { failpoints, type Took } from '../support/kill-driver.ts';
import { openReceiver, type Receiver } from '../support/kill-receiver.ts';
import { createRandom } from '../support/kill-ledger.ts';
import { bundleForBun, storm, toMedian, toSummary, warmNode, type Storm } from '../support/kill-storm.ts';

/** In all; a start on Bun costs a quarter of one on Node, so Bun takes most of them. */
const kills = Number(process.env['HONO_AI_KILLS'] ?? 240);
const seed = Number(process.env['HONO_AI_KILL_SEED'] ?? Date.now() % 1_000_000);
const NODE_SHARE = 0.1;
const READY_MS = 2000;
const COLD_STARTS = 3;
const LIMIT_MS = 1_200_000;

let runtime: CountingRuntime;
let receiver: Receiver;
let node: Awaited<ReturnType<typeof warmNode>> | undefined;
let bun: Awaited<ReturnType<typeof bundleForBun>> | undefined;
let storms: Storm[] = [];
/** From the start of a process to its first 2xx of /ready. */
const cold: Took[] = [];

beforeAll(async () => {
  runtime = await openCountingRuntime();
  receiver = await openReceiver(createRandom(seed));
  receiver.refuse(0.01);
  const onNode = Math.ceil(kills * NODE_SHARE);
  const onBun = Math.ceil((kills - onNode) / 2);
  const common = { runtime, receiver };
  [node, bun] = await Promise.all([warmNode(), bundleForBun()]);
  storms = await Promise.all([
    storm({ ...common, engine: 'bun', kills: onBun, name: 'bun-1', seed, host: bun.host }),
    storm({ ...common, engine: 'bun', kills: onBun, name: 'bun-2', seed: seed + 1, host: bun.host }),
    storm({ ...common, engine: 'node', kills: onNode, name: 'node-1', seed: seed + 2, host: node.host }),
  ]);
  // One after the other, when nothing else of this test takes the processor.
  for (const one of storms) for (let start = 0; start < COLD_STARTS; start++) cold.push(await one.startCold());
  for (const one of storms) console.log(`seed ${seed}: ${toSummary(one)}`);
  console.log(`cold starts: ${cold.map(({ wall, own }) => `${Math.round(wall)} (${Math.round(own)})`).join(' ')} ms`);
}, LIMIT_MS);

afterAll(async () => {
  for (const one of storms) await one.close();
  node?.remove();
  bun?.remove();
  await runtime.close();
  await receiver.close();
});

describe('a gateway that is killed again and again', () => {
  it('is killed as often as it was asked for, at every failpoint on every engine', () => {
    const all = storms.flatMap((one) => Object.values(one.kills));
    expect(all.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(kills);
    for (const one of storms) for (const point of failpoints) expect(one.kills[point], point).toBeGreaterThan(0);
  });

  it('loses nothing, ends everything once, and doubles nothing', () => {
    for (const { violations } of storms) expect(violations).toEqual([]);
  });

  it('had work in flight when it died', () => {
    for (const { findings } of storms) {
      expect(findings.again).toBeGreaterThan(0);
      expect(findings.redeliveries).toBeGreaterThan(0);
      expect(findings.jobs['done']).toBeGreaterThan(0);
      expect(findings.jobs['cancelled']).toBeGreaterThan(0);
    }
  });

  // Of all starts the slowest says more about the machine: it is printed.
  it('is ready again within two seconds of a start', () => {
    for (const { ready } of storms) expect(toMedian(ready)).toBeLessThanOrEqual(READY_MS);
    expect(toMedian(cold)).toBeLessThanOrEqual(READY_MS);
  });
});
