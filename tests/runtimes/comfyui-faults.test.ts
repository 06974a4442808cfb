// What goes wrong with ComfyUI: callers leave, connections break, servers are started again, files are missing, memory runs out.
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ComfyUIOptions } from '../../adapters/runtimes/comfyui/index.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import type { TransportRequest } from '../../src/upstream.ts';
import { holdRoute, openComfyUI, picture, start } from '../support/comfyui-runtime.ts';
import type { Started } from '../support/comfyui-runtime.ts';
import { eventually } from '../support/eventually.ts';
import { openFakeComfyUI } from '../support/fake-comfyui/index.ts';
import type { FakeComfyUI, FakeComfyUIOptions } from '../support/fake-comfyui/index.ts';

const INPUT = { prompt: 'a lighthouse', width: 256, height: 256, steps: 4 };
const within = 5000;

const opened: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).toReversed()) await close();
});

async function open(options: FakeComfyUIOptions = {}) {
  const fake = await openFakeComfyUI(options);
  opened.push(() => fake.close());
  const connect = (more: Partial<ComfyUIOptions> = {}) => {
    const runtime = openComfyUI(fake.url, more);
    opened.push(async () => runtime.close?.());
    return runtime;
  };
  return { fake, connect };
}

const ask = (runtime: RuntimeAdapter, input: object = {}) =>
  start(runtime, 'image.generate', 'sdxl', { ...INPUT, ...input });

describe.each([
  ['with jobs', true],
  ['of 2025', false],
])('a caller who leaves a server %s', (_, jobsApi) => {
  let fake: FakeComfyUI;
  let other: RuntimeAdapter;
  let connect: Awaited<ReturnType<typeof open>>['connect'];
  let running: Started;
  beforeAll(async () => {
    fake = await openFakeComfyUI({ jobsApi });
    connect = (more = {}) => openComfyUI(fake.url, more);
    other = connect();
  });
  afterAll(async () => {
    await other.close?.();
    await fake.close();
  });
  afterEach(() => fake.release());

  /** Somebody else's job, which stands still in the middle of its work. */
  async function occupy(): Promise<string> {
    fake.hold('sampling');
    running = ask(other);
    return fake.held();
  }

  const isOnlyFor = (id: string | undefined, before: { interrupts: number; cancels: number; deletes: number }) => {
    expect(
      fake
        .interrupts()
        .slice(before.interrupts)
        .every((each) => each.prompt_id === id),
    ).toBe(true);
    expect(
      fake
        .cancels()
        .slice(before.cancels)
        .every((each) => each === id),
    ).toBe(true);
    expect(
      fake
        .deletes()
        .slice(before.deletes)
        .every((each) => each === id),
    ).toBe(true);
  };
  const count = () => ({
    interrupts: fake.interrupts().length,
    cancels: fake.cancels().length,
    deletes: fake.deletes().length,
  });

  it('while it uploads sends nothing', async () => {
    const hold = holdRoute('/upload/image', 'before');
    const comfyui = connect({ transport: hold.transport });
    const prompts = fake.prompts().length;
    const files = [await picture('art_a', 64, 64)];
    const job = start(comfyui, 'image.edit', 'sdxl', { image: ['art_a'], prompt: 'x' }, { files });
    await hold.reached;
    job.cancel();
    expect((await job.failed).code).toBe('client_closed');
    expect(fake.prompts()).toHaveLength(prompts);
    await comfyui.close?.();
  });

  it.each(['before', 'after'] as const)('%s its prompt is taken takes it back', async (when) => {
    const theirs = await occupy();
    const before = count();
    const hold = holdRoute('/prompt', when);
    const comfyui = connect({ transport: hold.transport });
    const job = ask(comfyui);
    await hold.reached;
    job.cancel();
    expect((await job.failed).code).toBe('client_closed');
    hold.letGo();
    await comfyui.close?.();
    await eventually('it left the queue', () => fake.prompts().length > 0 && fake.pending().length === 0);
    expect(fake.running()).toBe(theirs);
    isOnlyFor(fake.prompts().at(-1)!.prompt_id, before);
    fake.release();
    await running.ended;
  });

  it('while it waits leaves what runs alone', async () => {
    const theirs = await occupy();
    const before = { ...count(), executions: fake.executions() };
    const comfyui = connect();
    const job = ask(comfyui);
    await eventually('it waits', () => fake.pending().length === 1);
    const [mine] = fake.pending();
    job.cancel();
    expect((await job.failed).code).toBe('client_closed');
    expect(fake.pending()).toEqual([]);
    expect(fake.running()).toBe(theirs);
    isOnlyFor(mine, before);
    expect(fake.interrupts().filter(({ hit }) => hit)).toHaveLength(before.interrupts);
    fake.release();
    await running.ended;
    expect(fake.executions()).toBe(before.executions);
    await comfyui.close?.();
  });

  it('while it runs stops that and nothing else', async () => {
    const comfyui = connect();
    fake.hold('sampling');
    const job = ask(comfyui);
    const mine = await fake.held();
    const theirs = ask(other);
    await eventually('another waits', () => fake.pending().length === 1);
    const before = count();
    job.cancel();
    const left = performance.now();
    expect((await job.failed).code).toBe('client_closed');
    await eventually('it stopped', () => fake.running() !== mine);
    expect(performance.now() - left).toBeLessThan(10_000);
    isOnlyFor(mine, before);
    fake.release();
    expect((await theirs.ended).files).toHaveLength(1);
    await comfyui.close?.();
  });

  it('while its files are read leaves it finished', async () => {
    const hold = holdRoute('/view', 'before');
    const comfyui = connect({ transport: hold.transport });
    const before = count();
    const job = ask(comfyui);
    await hold.reached;
    job.cancel();
    expect((await job.failed).code).toBe('client_closed');
    expect(count()).toEqual(before);
    await comfyui.close?.();
  });
});

describe('a connection', () => {
  it('that drops is opened again, and the prompt is not sent twice', async () => {
    const { fake, connect } = await open();
    fake.hold('sampling');
    const job = ask(connect());
    await fake.held();
    const [client] = fake.sockets();
    fake.dropSockets();
    await eventually('it is back', () => fake.sockets().length === 1);
    expect(fake.sockets()).toEqual([client]);
    const heard = job.events.length;
    fake.release();
    expect((await job.ended).files).toHaveLength(1);
    expect(job.events.slice(heard).filter(({ type }) => type === 'progress').length).toBeGreaterThan(2);
    expect(fake.prompts()).toHaveLength(1);
  });

  it('that died without a word is noticed', async () => {
    const { fake, connect } = await open();
    let connections = 0;
    const Real = WebSocket;
    vi.stubGlobal(
      'WebSocket',
      class extends Real {
        constructor(url: string) {
          super(url);
          connections++;
        }
      },
    );
    opened.push(async () => void vi.unstubAllGlobals());
    fake.hold('sampling');
    const job = ask(connect());
    await fake.held();
    fake.silence();
    expect(connections).toBe(1);
    fake.release();
    expect((await job.ended).files).toHaveLength(1);
    expect(fake.prompts()).toHaveLength(1);
    expect(connections).toBe(2);
  });

  it('that cannot be made costs the progress, not the job', async () => {
    const { fake, connect } = await open();
    fake.silence();
    const job = ask(connect());
    expect((await job.ended).files).toHaveLength(1);
    expect(job.events.some(({ type }) => type === 'preview')).toBe(false);
  });

  it('that breaks before the answer to a prompt does not lose it, nor send it twice', async () => {
    const { fake, connect } = await open();
    let broken = false;
    const transport = async (request: TransportRequest) => {
      const reply = await fetchTransport(request);
      if (broken || !request.url.endsWith('/prompt')) return reply;
      broken = true;
      throw new TypeError('socket hang up');
    };
    expect((await ask(connect({ transport })).ended).files).toHaveLength(1);
    expect(fake.prompts()).toHaveLength(1);
  });

  it('that breaks within a file is made again, and the file goes on where it ended', async () => {
    const { connect } = await open();
    const ranges: (string | undefined)[] = [];
    const transport = async (request: TransportRequest) => {
      const reply = await fetchTransport(request);
      if (!new URL(request.url).pathname.endsWith('/view')) return reply;
      ranges.push(request.headers['range']);
      return ranges.length > 1 ? reply : { ...reply, body: cut(reply.body, 1000) };
    };
    const { files } = await ask(connect({ transport })).ended;
    expect(ranges).toEqual([undefined, 'bytes=1000-']);
    expect(await sharp(files[0]).metadata()).toMatchObject({ format: 'png', width: 256 });
  });

  it('success that history knows of only later is waited for', async () => {
    const { fake, connect } = await open();
    fake.successBeforeHistoryMs = 700;
    expect((await ask(connect()).ended).files).toHaveLength(1);
    // Nor is it lost where neither queue nor history knows of it for a while.
    fake.successBeforeHistoryMs = 0;
    let hidden = 0;
    const transport = async (request: TransportRequest) => {
      const reply = await fetchTransport(request);
      if (!request.url.includes('/history/')) return reply;
      let body = '';
      for await (const piece of reply.body) body += new TextDecoder().decode(piece);
      return { ...reply, body: once(body !== '{}' && hidden++ < 5 ? '{}' : body) };
    };
    expect((await ask(connect({ transport })).ended).files).toHaveLength(1);
    expect(hidden).toBeGreaterThan(5);
  });
});

describe('a server', () => {
  it('that is started again has lost what ran: it is never taken as done', async () => {
    const { fake, connect } = await open();
    const comfyui = connect();
    fake.hold('sampling');
    const jobs = [ask(comfyui), ask(comfyui)];
    await fake.held();
    await eventually('one waits', () => fake.pending().length === 1);
    await fake.restart();
    for (const job of jobs) {
      const error = await job.failed;
      expect(error).toMatchObject({ code: 'upstream_terminated', source: 'comfyui' });
      expect(error.retry).not.toBe(false);
      expect(error.message).toContain('lost before it was finished');
    }
    expect((await ask(comfyui).ended).files).toHaveLength(1);
  });

  it('that does not come back ends the job', async () => {
    const { fake, connect } = await open();
    fake.hold('sampling');
    const job = ask(connect());
    await fake.held();
    const restarting = fake.restart({ downMs: 2500 });
    expect(await job.failed).toMatchObject({ code: 'upstream_terminated' });
    await restarting;
  });

  it('that is not there says how to start it', async () => {
    const runtime = openComfyUI('http://127.0.0.1:9');
    const error = await ask(runtime).failed;
    expect(error).toMatchObject({ code: 'upstream_unavailable', source: 'comfyui' });
    expect(error.hint).toContain('Start ComfyUI');
    await expect(runtime.health(AbortSignal.timeout(within))).rejects.toMatchObject({ code: 'upstream_unavailable' });
    await expect(runtime.models(AbortSignal.timeout(within))).rejects.toMatchObject({ code: 'upstream_unavailable' });
    await runtime.close?.();
  });

  it('that is another program is told', async () => {
    const transport = async () => ({ status: 200, header: () => undefined, body: once('<html>hello</html>') });
    const runtime = openComfyUI('http://127.0.0.1:9', { transport });
    await expect(runtime.health(AbortSignal.timeout(within))).rejects.toMatchObject({ code: 'upstream_invalid' });
    await runtime.close?.();
  });

  it('whose queue somebody empties has not finished what waited there', async () => {
    const { fake, connect } = await open();
    fake.hold('sampling');
    const comfyui = connect();
    const first = ask(comfyui);
    await fake.held();
    const job = ask(comfyui);
    await eventually('one waits', () => fake.pending().length === 1);
    await post(fake, '/queue', { clear: true });
    const error = await job.failed;
    expect(error.code).toBe('upstream_terminated');
    expect(error.message).toContain('took it out of the queue');
    fake.release();
    await first.ended;
  });

  it('that somebody else interrupts says so', async () => {
    const { fake, connect } = await open();
    fake.hold('sampling');
    const job = ask(connect());
    await fake.held();
    await post(fake, '/interrupt', {});
    const error = await job.failed;
    expect(error.code).toBe('cancelled');
    expect(error.message).toContain('stopped on comfyui by someone else');
  });
});

describe('what a workflow needs', () => {
  it('and the server lacks is named, with what gets it; once it is there it is found', async () => {
    const { fake, connect } = await open();
    const comfyui = connect();
    const name = 'sd_xl_base_1.0.safetensors';
    expect((await ask(comfyui).ended).files).toHaveLength(1);
    // The server has just told that it has it.
    fake.removeModelFile(name);
    const refused = await ask(comfyui).failed;
    expect(refused).toMatchObject({ code: 'model_not_found', source: 'comfyui' });
    expect(refused.message).toContain(name);
    const unsent = await ask(comfyui).failed;
    expect(unsent).toMatchObject({ code: 'model_not_found' });
    expect(unsent.message).toContain(name);
    expect(fake.prompts().map(({ status }) => status)).toEqual([200, 400]);
    expect(comfyui.pullHint!('sdxl')).not.toBe('');
    fake.addModelFile('checkpoints', name);
    expect((await ask(comfyui).ended).files).toHaveLength(1);
  });

  it('is listed as available where it is not installed', async () => {
    const { connect } = await open({ files: 'none' });
    const models = await connect().models(AbortSignal.timeout(within));
    expect(models.find(({ id }) => id === 'sdxl')?.state).toBe('available');
  });

  it('and a node that fails are told: which node and why', async () => {
    const { fake, connect } = await open();
    const comfyui = connect();
    fake.failNext('error');
    const error = await ask(comfyui).failed;
    expect(error).toMatchObject({ code: 'upstream_error', retry: false });
    expect(error.message).toMatch(/failed in KSampler \(node \w+\): mat1 and mat2 shapes cannot be multiplied/);
    fake.failNext('loader');
    expect((await ask(comfyui).failed).hint).toContain('damaged');
    expect((await ask(comfyui).ended).files).toHaveLength(1);
  });
});

describe('a prompt', () => {
  it('of a caller who has already left is never sent', async () => {
    const { fake, connect } = await open();
    const comfyui = connect();
    await ask(comfyui).ended;
    const job = ask(comfyui);
    job.cancel();
    expect((await job.failed).code).toBe('client_closed');
    const { length } = fake.prompts();
    expect(length === 1 || fake.cancels().includes(fake.prompts()[1]!.prompt_id!)).toBe(true);
    expect(fake.executions()).toBe(1);
  });

  it('that is taken in part only is taken back', async () => {
    const { fake, connect } = await open();
    fake.hold('start');
    const transport = async (request: TransportRequest) => {
      const reply = await fetchTransport(request);
      if (!request.url.endsWith('/prompt')) return reply;
      const errors = [{ type: 'value_smaller_than_min', message: 'Value 8 smaller than min of 16', details: 'width' }];
      const node_errors = { 5: { errors, dependent_outputs: ['9'], class_type: 'EmptyLatentImage' } };
      for await (const _ of reply.body);
      return { ...reply, body: once(JSON.stringify({ prompt_id: 'x', number: 1, node_errors })) };
    };
    const error = await ask(connect({ transport })).failed;
    expect(error.code).toBe('invalid_request');
    expect(error.message).toContain('node 5 (EmptyLatentImage)');
    const prompt_id = fake.prompts()[0]!.prompt_id!;
    await eventually('it is gone', () => fake.running() === undefined && fake.pending().length === 0);
    expect(fake.cancels()).toEqual([prompt_id]);
  });
});

describe('memory that runs out', () => {
  // Another try, with the card for itself, is the gateway's: tests/conformance/media-failures.ts.
  it('is an error, and the server goes on', async () => {
    const { fake, connect } = await open();
    const comfyui = connect();
    fake.failNext('oom');
    const error = await ask(comfyui).failed;
    expect(error).toMatchObject({ code: 'insufficient_vram', retry: false });
    expect(error.message).toContain('KSampler');
    expect(fake.prompts()).toHaveLength(1);
    expect(fake.frees()).toEqual([]);
    expect((await ask(comfyui).ended).files).toHaveLength(1);
  });
});

async function post(fake: FakeComfyUI, path: string, json: object): Promise<void> {
  await fetch(fake.url + path, { method: 'POST', body: JSON.stringify(json) });
}

async function* cut(body: AsyncIterable<Uint8Array>, at: number): AsyncGenerator<Uint8Array> {
  for await (const piece of body) {
    yield piece.subarray(0, at);
    throw new TypeError('terminated');
  }
}

async function* once(text: string): AsyncGenerator<Uint8Array> {
  yield new TextEncoder().encode(text);
}
