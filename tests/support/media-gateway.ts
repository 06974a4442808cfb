// A gateway over a fake ComfyUI, a fake ACE-Step and a fake Ollama, and what tests of pictures, films and music ask of it.
import { expect, vi } from 'vitest';
import { openFakeAceStep, type FakeAceStep } from './fake-acestep.ts';
import { openFakeComfyUI, type FakeComfyUI } from './fake-comfyui/index.ts';
import { openFakeOllama, type FakeOllama } from './fake-ollama.ts';
import { post, type GatewayOptions, type TestGateway } from './gateway.ts';
import { probe } from './media/index.ts';

export interface Made {
  id: string;
  name: string;
  media_type: string;
  media?: { width?: number; height?: number; frames?: number; duration_s?: number; fps?: number };
  url: string;
  size: number;
}

export interface Answer {
  model: string;
  runtime: string;
  seed?: number;
  warnings: string[];
  artifacts: Made[];
}

export interface MediaGateway {
  gateway: TestGateway;
  comfyui: FakeComfyUI;
  acestep: FakeAceStep;
  ollama: FakeOllama;
  /** A POST of JSON. */
  ask(path: string, body: object, headers?: Record<string, string>): Promise<Response>;
  /** The same, and its answer; fails the test where it is not 200. */
  make(path: string, body: object, headers?: Record<string, string>): Promise<Answer>;
  /** A form whose files are given by field. */
  form(path: string, fields: Record<string, string>, files: [field: string, bytes: Uint8Array][]): Promise<Response>;
  /** The bytes behind a signed link, asked for without a key. */
  fetch(made: Made): Promise<Uint8Array<ArrayBuffer>>;
  probe(made: Made): ReturnType<typeof probe>;
  close(): Promise<void>;
}

export async function openMediaGateway(
  open: (options: GatewayOptions) => Promise<TestGateway>,
  env: Record<string, string> = {},
): Promise<MediaGateway> {
  const comfyui = await openFakeComfyUI({ stepMs: 2, previews: 'jpeg' });
  const acestep = await openFakeAceStep();
  const ollama = await openFakeOllama();
  const gateway = await open({
    runtimes: [
      { name: 'comfyui', kind: 'comfyui', url: comfyui.url, priority: 60 },
      { name: 'acestep', kind: 'acestep', url: acestep.url, priority: 40 },
      { name: 'ollama', kind: 'ollama', url: ollama.url },
    ],
    env: { HONO_AI_EMBEDDED: 'false', HONO_AI_FIRST_BYTE_MS: '10000', HONO_AI_IDLE_MS: '10000', ...env },
  });
  const ask = (path: string, body: object, headers: Record<string, string> = {}) =>
    gateway.request(path, post(body, { headers }));
  const fetch = async ({ url }: Made) => {
    const response = await gateway.request(url);
    expect(response.status).toBe(200);
    return new Uint8Array(await response.arrayBuffer());
  };
  return {
    gateway,
    comfyui,
    acestep,
    ollama,
    ask,
    async make(path, body, headers) {
      const response = await ask(path, body, headers);
      const text = await response.text();
      expect(response.status, text).toBe(200);
      return JSON.parse(text) as Answer;
    },
    form(path, fields, files) {
      const form = new FormData();
      for (const [name, value] of Object.entries(fields)) form.append(name, value);
      for (const [name, bytes] of files) form.append(name, new Blob([bytes as Uint8Array<ArrayBuffer>]), `${name}.png`);
      return gateway.request(path, { method: 'POST', body: form });
    },
    fetch,
    probe: async (made) => probe(await fetch(made)),
    async close() {
      await gateway.close();
      await Promise.all([comfyui.close(), acestep.close(), ollama.close()]);
    },
  };
}

/** The code and the message of a refusal. */
export async function refusal(response: Response): Promise<{ status: number; code: string; text: string }> {
  const { error } = (await response.json()) as { error: { code: string; message: string; hint?: string } };
  return { status: response.status, code: error.code, text: `${error.message} ${error.hint ?? ''}` };
}

/** Asks until it does not throw any more; gives what it returns then. */
export function eventually<T>(look: () => T | Promise<T>, timeout = 10_000): Promise<T> {
  return vi.waitFor(look, { timeout, interval: 25 });
}
