// Every runtime that makes files, held to the common ground.
import { openMediaTools } from '../../adapters/media/index.ts';
import { createA1111 } from '../../adapters/runtimes/a1111/index.ts';
import { createAceStep } from '../../adapters/runtimes/acestep/index.ts';
import { createComfyUI } from '../../adapters/runtimes/comfyui/index.ts';
import { createEmbedded } from '../../adapters/runtimes/embedded/index.ts';
import { createOpenAI } from '../../adapters/runtimes/openai/index.ts';
import type { CapabilityId } from '../../src/capabilities/index.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { fetchTransport } from '../../src/upstream.ts';
import { testMaker } from '../conformance/maker.ts';
import { openFakeA1111 } from '../support/fake-a1111.ts';
import { openFakeAceStep } from '../support/fake-acestep.ts';
import { openFakeComfyUI } from '../support/fake-comfyui/index.ts';
import { openFakeMedia } from '../support/fake-openai-media.ts';
import { openFakeXai } from '../support/fake-xai-media.ts';

const tools = openMediaTools({ maxPixels: 4_000_000 });
const limits = { firstByteMs: 5000, idleMs: 5000, controlMs: 3000, maxReplyBytes: 64_000_000 };
const common = { transport: fetchTransport, limits, tools };
const FOX = { prompt: 'a red fox', size: '512x512' };

interface Fake {
  url: string;
  close(): Promise<void>;
  executions?(): number;
}

const cases: [string, CapabilityId, string, object, () => Promise<Fake>, (baseUrl: string) => RuntimeAdapter][] = [
  [
    'ComfyUI',
    'image.generate',
    'sdxl',
    FOX,
    () => openFakeComfyUI(),
    (baseUrl) => createComfyUI({ ...common, name: 'comfyui', baseUrl }),
  ],
  [
    'ComfyUI',
    'video.generate',
    'animatediff',
    { prompt: 'waves', frames: 16 },
    () => openFakeComfyUI(),
    (baseUrl) => createComfyUI({ ...common, name: 'comfyui', baseUrl }),
  ],
  [
    'ACE-Step',
    'music.generate',
    'acestep-v15-turbo',
    { prompt: 'lo-fi', seconds: 10 },
    () => openFakeAceStep(),
    (baseUrl) => createAceStep({ ...common, name: 'acestep', baseUrl }),
  ],
  [
    'AUTOMATIC1111',
    'image.generate',
    'sd_xl_base_1.0',
    FOX,
    () => openFakeA1111(),
    (baseUrl) => createA1111({ ...common, name: 'a1111', baseUrl, pollMs: 10 }),
  ],
  [
    'sd-server',
    'image.generate',
    'sd-cpp-local',
    FOX,
    () => openFakeMedia({ kind: 'sd-server' }),
    (baseUrl) => createOpenAI({ ...common, name: 'sd', baseUrl }),
  ],
  [
    'xAI',
    'video.generate',
    'grok-imagine-video',
    { prompt: 'waves' },
    () => openFakeXai({}),
    (baseUrl) => createOpenAI({ ...common, name: 'xai', flavour: 'xai', apiKey: 'secret', baseUrl, pauseMs: 10 }),
  ],
];

for (const [name, capability, model, input, openFake, toRuntime] of cases) {
  testMaker(`${name}: ${capability}`, async () => {
    const fake = await openFake();
    const runtime = toRuntime(fake.url);
    const { executions } = fake;
    return {
      runtime,
      capability,
      model,
      input,
      ...(executions ? { executions: () => executions() } : {}),
      async close() {
        await runtime.close?.();
        await fake.close();
      },
    };
  });
}

testMaker('the embedded runtime: image.generate', async () => {
  const runtime = createEmbedded({ tools, cacheDir: 'no-cache', download: false, idleMs: 60_000, queue: 4 });
  const input = { prompt: 'a red house at night', steps: 4 };
  const close = async () => runtime.close!();
  return { runtime, capability: 'image.generate', model: 'tiny-t2i', input, close };
});
