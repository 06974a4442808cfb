// Jobs that make files, and keys that outlive a process: the whole gateway in process, over a runtime that makes bytes.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openGateway } from '../../adapters/index.ts';
import { toUsage } from '../../src/capabilities/text/fields.ts';
import { GatewayError } from '../../src/error.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { eventually } from '../support/eventually.ts';
import { post } from '../support/gateway.ts';

const PNG = Uint8Array.from(
  atob('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='),
  (char) => char.charCodeAt(0),
);

let folder: string;
let gate: Promise<void>;
let runs: number;
const open: (() => Promise<void>)[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hono-ai-files-'));
  gate = Promise.resolve();
  runs = 0;
});
afterEach(async () => {
  for (const close of open.splice(0)) await close();
  rmSync(folder, { recursive: true, force: true });
});

/** Makes a picture and a text for every prompt, with a preview before; waits for the gate. */
function painter(): RuntimeAdapter {
  return {
    name: 'painter',
    priority: 1,
    models: async () => [{ id: 'brush', capabilities: ['text.generate'], state: 'ready' }],
    health: async () => {},
    handles: {
      async *'text.generate'({ prompt }, { signal }) {
        runs++;
        yield { type: 'preview', media_type: 'image/png', bytes: PNG };
        const stopped = new Promise<never>((_, reject) => {
          signal.addEventListener('abort', () => reject(new GatewayError('client_closed', 'stopped')), { once: true });
        });
        await Promise.race([gate, stopped]);
        yield {
          type: 'result',
          result: { text: prompt, finish_reason: 'stop', usage: toUsage(1, 1) },
          files: [
            { name: 'picture.png', bytes: PNG },
            { name: 'notes.txt', bytes: new TextEncoder().encode(`About ${prompt}`) },
          ],
        };
      },
    },
  };
}

async function start() {
  const opened = await openGateway({
    env: { HONO_AI_CONFIG: '/dev/null', HONO_AI_STATE_DIR: folder, HONO_AI_LOG_LEVEL: 'silent' },
    runtimes: [painter()],
  });
  let closed = false;
  const close = async () => {
    if (!closed) await opened.close();
    closed = true;
  };
  open.push(close);
  const request = async (path: string, init?: RequestInit) =>
    opened.app.fetch(new Request(`http://127.0.0.1${path}`, init));
  return { ...opened, request, close };
}

interface Made {
  artifacts: { id: string; name: string; media_type: string; size: number; url: string; b64_json?: string }[];
}

describe('files of a job', () => {
  it('appear with its end, typed by their bytes, behind signed links', async () => {
    const { request } = await start();
    const made = (await (await request('/text/gen', post({ prompt: 'a cat', job: {} }))).json()) as Made;
    expect(made.artifacts.map(({ name, media_type, size }) => [name, media_type, size])).toEqual([
      ['picture.png', 'image/png', PNG.length],
      ['notes.txt', 'text/plain', 11],
    ]);
    const picture = await request(made.artifacts[0]!.url);
    expect(picture.headers.get('content-type')).toBe('image/png');
    expect(new Uint8Array(await picture.arrayBuffer())).toEqual(PNG);
  });

  it('come with their bytes where that is asked for', async () => {
    const { request } = await start();
    const answer = await request('/text/gen', post({ prompt: 'x', job: { response_format: 'b64_json' } }));
    const [picture] = ((await answer.json()) as Made).artifacts;
    expect(picture!.b64_json).toBe(btoa(String.fromCharCode(...PNG)));
    const later = await request(`/jobs/${answer.headers.get('x-job-id')}?response_format=b64_json`);
    expect(((await later.json()) as Made).artifacts[0]!.b64_json).toBe(picture!.b64_json);
  });

  it('say how they were made, until that is taken away', async () => {
    const { request } = await start();
    const made = (await (await request('/text/gen', post({ prompt: 'a cat', seed: 4, job: {} }))).json()) as Made;
    const { id } = made.artifacts[0]!;
    const details = async () => (await (await request(`/artifacts/${id}`)).json()) as { made: unknown };
    expect((await details()).made).toMatchObject({
      capability: 'text.generate',
      model: 'brush',
      runtime: 'painter',
      prompt: 'a cat',
      seed: 4,
    });
    await request(`/artifacts/${id}/made`, { method: 'DELETE' });
    expect((await details()).made).toBeNull();
  });

  it('are not made again for the same seed, but given again', async () => {
    const { request } = await start();
    const ask = async () => request('/text/gen', post({ prompt: 'once', seed: 9, job: {} }));
    const first = (await (await ask()).json()) as Made;
    const again = await ask();
    expect(again.headers.get('x-cache')).toBe('hit');
    expect(((await again.json()) as Made).artifacts.map(({ id }) => id)).toEqual(first.artifacts.map(({ id }) => id));
    expect(runs).toBe(1);
    await request(`/artifacts/${first.artifacts[0]!.id}`, { method: 'DELETE' });
    expect((await ask()).headers.get('x-cache')).toBe('miss');
    expect(runs).toBe(2);
  });

  it('are previewed on the way', async () => {
    const { work, request } = await start();
    const seen: string[] = [];
    work.store.spine.subscribe((_, event) => seen.push(event.type));
    await request('/text/gen', post({ prompt: 'x', job: {} }));
    expect(seen).toContain('job:preview');
  });
});

describe('a key whose process ended before it could answer', () => {
  it('finds the job that goes on, and no second one', async () => {
    let go = () => {};
    gate = new Promise((resolve) => (go = resolve));
    const headers = { 'idempotency-key': 'k-1', prefer: 'wait=60' };
    const first = await start();
    const asked = first
      .request('/text/gen', post({ prompt: 'long', model: 'brush' }, { headers }))
      .catch(() => undefined);
    await eventually('it runs', () => runs > 0);
    const [claim] = (await first.work.store.documents.list<{ until: number }>('idempotency', { limit: 1 })).documents;
    const { kind, id, owner, value, due } = claim!;
    // The process is gone for as long as a claim is believed.
    await first.work.store.documents.put([{ kind, id, owner, value: { ...value, until: 0 }, due: due! }]);
    await first.close();
    void asked;
    go();
    const second = await start();
    const answer = await second.request('/text/gen', post({ prompt: 'long', model: 'brush' }, { headers }));
    expect([answer.status, ((await answer.json()) as { text: string }).text]).toEqual([200, 'long']);
    const { data } = (await (await second.request('/jobs')).json()) as { data: unknown[] };
    expect(data).toHaveLength(1);
  });
});
