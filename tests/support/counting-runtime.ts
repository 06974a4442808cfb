// The oracle of the tests that kill gateways: a runtime outside of them that counts every execution, and the adapter through which they reach it.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { GatewayError } from '../../src/error.ts';
import type { MadeFile } from '../../src/event.ts';
import type { Model, RuntimeAdapter } from '../../src/runtime.ts';

/** What a job is to do; its prompt is this as JSON. */
export interface Plan {
  /** Who asked: the same for one request however often it is sent, and no other's. */
  key: string;
  /** How long it takes, in milliseconds. */
  ms: number;
  /** One file for each; equal labels give equal bytes. */
  files: string[];
  /** It fails, for good. */
  fails?: boolean;
  /** The gateway of this generation stands still (SIGSTOP) with the answer in its hands. */
  stops?: string;
}

export interface Execution {
  job: string;
  /** Which start of which gateway asked for it. */
  generation: string;
  model: string;
  plan: Plan;
  /** On the clock of `performance.now()`. */
  startedAt: number;
  endedAt?: number;
  /** `cut`: the gateway left before the end, alive or dead. */
  outcome?: 'answered' | 'failed' | 'cut';
}

export interface CountingRuntime {
  url: string;
  executions: Execution[];
  of(job: string): Execution[];
  running(): Execution[];
  /** Called with each start. */
  onStart(listener: (execution: Execution) => void): () => void;
  /** Executions of this plan by this generation do not end before they are released. */
  hold(key: string, generation: string): { release(): void };
  close(): Promise<void>;
}

interface Asked {
  job: string;
  generation: string;
  model: string;
  plan: Plan;
}

export const models = ['small', 'large'] as const;
const FOOTPRINT = 600_000_000;
/** The card has room for one of the two models. */
export const vram = '1GB';

export async function openCountingRuntime(): Promise<CountingRuntime> {
  const executions: Execution[] = [];
  const byJob = new Map<string, Execution[]>();
  const running = new Set<Execution>();
  const listeners = new Set<(execution: Execution) => void>();
  const holds = new Map<string, Promise<void>>();

  async function execute(asked: Asked, response: ServerResponse): Promise<void> {
    const execution: Execution = { ...asked, startedAt: performance.now() };
    executions.push(execution);
    const known = byJob.get(asked.job);
    if (known) known.push(execution);
    else byJob.set(asked.job, [execution]);
    running.add(execution);
    const end = (outcome: Execution['outcome']) => {
      if (execution.outcome) return;
      running.delete(execution);
      execution.endedAt = performance.now();
      execution.outcome = outcome;
    };
    response.on('close', () => end('cut'));
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.write('{"started":true}\n');
    for (const listener of listeners) listener(execution);
    await sleep(asked.plan.ms);
    await holds.get(`${asked.plan.key} ${asked.generation}`);
    if (execution.outcome) return;
    end(asked.plan.fails ? 'failed' : 'answered');
    response.end(asked.plan.fails ? '{"failed":true}\n' : '{"done":true}\n');
  }

  const server = createServer((request, response) => {
    response.on('error', () => {});
    void readJson<Asked>(request).then(
      (asked) => execute(asked, response),
      () => response.destroy(),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    executions,
    of: (job) => byJob.get(job) ?? [],
    running: () => [...running],
    onStart(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    hold(key, generation) {
      const held = Promise.withResolvers<void>();
      const place = `${key} ${generation}`;
      holds.set(place, held.promise);
      return {
        release() {
          holds.delete(place);
          held.resolve();
        },
      };
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** Has two models that do not fit on the card together; jobs of one wait for the other's to leave. */
export function createCountingAdapter({ url, generation }: { url: string; generation: string }): RuntimeAdapter {
  const loaded = new Set<string>();
  return {
    name: 'counting',
    priority: 50,
    models: async () => models.map((id): Model => ({ id, capabilities: ['text.generate'], state: 'ready' })),
    health: async () => {},
    gpu: {
      footprint: () => FOOTPRINT,
      residents: async () => [...loaded].map((model) => ({ model, vram: FOOTPRINT })),
      evict: async (model) => void loaded.delete(model),
    },
    handles: {
      async *'text.generate'(input, { signal, requestId, model }) {
        loaded.add(model.id);
        const plan = JSON.parse(input.prompt) as Plan;
        const asked: Asked = { job: requestId, generation, model: model.id, plan };
        const response = await fetch(`${url}/execute`, { method: 'POST', body: JSON.stringify(asked), signal });
        // Headers come when it has begun: a gateway that dies from here on dies with work in flight.
        yield { type: 'progress', done: 1, total: 2, unit: 'steps' };
        const answer = await response.text();
        if (!answer.endsWith('{"done":true}\n'))
          throw new GatewayError('upstream_error', 'The runtime could not do it.', { source: 'counting' });
        if (plan.stops === generation) process.kill(process.pid, 'SIGSTOP');
        yield {
          type: 'result',
          result: {
            text: plan.key,
            finish_reason: 'stop',
            usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
          },
          ...(plan.files.length > 0 ? { files: plan.files.map(toFile) } : {}),
        };
      },
    },
  };
}

function toFile(label: string, index: number): MadeFile {
  return { name: `${index}-${label}.txt`, bytes: toBytes(label), media_type: 'text/plain' };
}

/** The same for the same label, everywhere; from a few bytes to some ten thousand. */
export function toBytes(label: string): Uint8Array {
  let seed = 7;
  for (const character of label) seed = (seed * 31 + character.codePointAt(0)!) >>> 0;
  return new TextEncoder().encode(`${label}\n`.repeat(1 + (seed % 2000)));
}

async function readJson<T>(request: IncomingMessage): Promise<T> {
  let text = '';
  for await (const piece of request) text += String(piece);
  return JSON.parse(text) as T;
}
