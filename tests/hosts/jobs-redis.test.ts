// Jobs over HTTP with Redis behind them, served by Node and by Bun; and a Redis that goes away under load.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testJobs } from '../conformance/jobs.ts';
import { openFakeOllama } from '../support/fake-ollama.ts';
import { openServed, post, type GatewayOptions, type TestGateway } from '../support/gateway.ts';
import { startRedis, withoutRedis, type RedisServer } from '../support/redis.ts';

const withRedis = (server: RedisServer, options: GatewayOptions): GatewayOptions => ({
  ...options,
  env: { ...options.env, HONO_AI_REDIS_URL: server.url },
});

describe.skipIf(withoutRedis)('with Redis', () => {
  for (const engine of ['node', 'bun'] as const) {
    testJobs(`${engine} and Redis`, async (options) => {
      const server = await startRedis();
      const gateway = await openServed(engine, withRedis(server, options));
      return {
        ...gateway,
        async close() {
          await gateway.close();
          await server.close();
        },
      };
    });
  }

  describe('that goes away', () => {
    let server: RedisServer;
    let ollama: Awaited<ReturnType<typeof openFakeOllama>>;
    let gateway: TestGateway;
    beforeAll(async () => {
      [server, ollama] = await Promise.all([startRedis(), openFakeOllama()]);
      const runtimes = [{ name: 'ollama', kind: 'ollama' as const, url: ollama.url }];
      gateway = await openServed('node', withRedis(server, { runtimes }));
    });
    afterAll(async () => {
      await gateway?.close();
      await Promise.all([server?.close(), ollama?.close()]);
    });

    const submit = () =>
      gateway.request('/text/gen', post({ prompt: 'x', model: 'echo' }, { headers: { prefer: 'respond-async' } }));
    const state = async (id: string) => {
      const answer = await gateway.request(`/jobs/${id}`);
      return answer.status === 200 ? ((await answer.json()) as { state: string }).state : undefined;
    };
    async function untilDone(ids: string[]): Promise<void> {
      const end = performance.now() + 20_000;
      const left = new Set(ids);
      while (left.size > 0 && performance.now() < end) {
        for (const id of left) if ((await state(id)) === 'done') left.delete(id);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      expect([...left]).toEqual([]);
    }

    it('answers 503 at once, loses nothing it took, and goes on by itself', { timeout: 60_000 }, async () => {
      const taken: string[] = [];
      for (let n = 0; n < 10; n++) taken.push(((await (await submit()).json()) as { id: string }).id);
      await server.kill();
      const refused = await submit();
      expect(refused.status).toBe(503);
      expect(((await refused.json()) as { error: { code: string } }).error.code).toBe('storage_unavailable');
      expect((await gateway.request('/ready')).status).toBe(503);
      expect((await gateway.request('/text/gen', post({ prompt: 'x', model: 'echo' }))).status).toBe(200);
      await server.start();
      await untilDone(taken);
      expect((await submit()).status).toBe(202);
    });

    it('that lost everything gets back what was promised, and says so', { timeout: 60_000 }, async () => {
      const taken: string[] = [];
      for (let n = 0; n < 5; n++) {
        const delayed = post(
          { prompt: 'x', model: 'echo', job: { delay_s: 2 } },
          { headers: { prefer: 'respond-async' } },
        );
        taken.push(((await (await gateway.request('/text/gen', delayed)).json()) as { id: string }).id);
      }
      await server.send('FLUSHALL');
      await untilDone(taken);
      const status = (await (await gateway.request('/system/status')).json()) as { jobs: { problems: string[] } };
      expect(status.jobs.problems.join(' ')).toMatch(/lost/i);
    });
  });
});
