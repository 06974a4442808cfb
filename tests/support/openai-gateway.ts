// A gateway in this process over the fake runtime, asked by the real OpenAI SDK in the name of several callers.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { openGateway } from '../../adapters/index.ts';
import { registerBatchEnd } from '../../src/dialects/openai/batch-output.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { createFakeRuntime } from './fake-runtime.ts';

const KEYS = { alice: 'alice-0123456789abcdef', bob: 'bob-0123456789abcdef' };
export type Caller = keyof typeof KEYS;

export interface OpenAIGatewayOptions {
  env?: Record<string, string>;
  runtimes?: RuntimeAdapter[];
  /** false: jobs are taken and wait. */
  work?: boolean;
  /** The state of an earlier gateway. */
  folder?: string;
}

export type OpenAIGateway = Awaited<ReturnType<typeof openOpenAIGateway>>;

export async function openOpenAIGateway(options: OpenAIGatewayOptions = {}) {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'hono-ai-openai-'));
  writeFileSync(join(folder, 'hono-ai.yaml'), JSON.stringify({ runtimes: [] }));
  const opened = await openGateway({
    env: {
      HONO_AI_CONFIG: join(folder, 'hono-ai.yaml'),
      HONO_AI_STATE_DIR: join(folder, 'state'),
      HONO_AI_DISCOVER: 'false',
      HONO_AI_LOG_LEVEL: 'silent',
      HONO_AI_CALLERS: Object.entries(KEYS)
        .map(([name, key]) => `${name}:${key}`)
        .join(','),
      HONO_AI_JOB_ATTEMPTS: '1',
      ...options.env,
    },
    runtimes: options.runtimes ?? [createFakeRuntime()],
    work: false,
  });
  const { work } = opened;
  registerBatchEnd({ ...work, now: Date.now });
  if (options.work !== false) await work.start();

  const request = async (path: string, init: RequestInit = {}, caller: Caller = 'alice') => {
    const sent = new Request(`http://127.0.0.1${path}`, init);
    if (!sent.headers.has('authorization')) sent.headers.set('authorization', `Bearer ${KEYS[caller]}`);
    return opened.app.fetch(sent);
  };
  return {
    ...opened,
    folder,
    request,
    sdk: (caller: Caller = 'alice') =>
      new OpenAI({
        apiKey: KEYS[caller],
        baseURL: 'http://127.0.0.1/v1',
        maxRetries: 0,
        fetch: (url, init) => request(new URL(String(url)).pathname + new URL(String(url)).search, init as RequestInit),
      }),
    /** Ends it; its state stays. */
    async stop() {
      await opened.gateway.drain(1000);
      await opened.close();
    },
    async close() {
      await opened.gateway.drain(1000);
      await opened.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
