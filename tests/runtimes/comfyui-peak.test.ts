// The most that ComfyUI took while a model worked: whose it is, when the server tells it late.
import { expect, it } from 'vitest';
import type { Client } from '../../adapters/runtimes/comfyui/client.ts';
import { createMemory } from '../../adapters/runtimes/comfyui/memory.ts';
import { eventually } from '../support/gateway.ts';

const signal = new AbortController().signal;

it('is not that of the one before, which is told when its work has ended and it has left', async () => {
  let taken = 9e9;
  const late = Promise.withResolvers<void>();
  let asked = 0;
  const client = {
    upstream: { name: 'comfyui' },
    queue: async () => ({ running: [], pending: [] }),
    free: async () => void (taken = 0),
    async stats() {
      const then = taken;
      if (asked++ === 0) await late.promise;
      return { system: {}, devices: [{ type: 'cuda', torch_vram_total: then }] };
    },
  } as unknown as Client;
  const memory = createMemory(client, { footprint: () => 0 }, { evictMs: 1000, peakMs: 10 });
  const ended = memory.ran('large');
  await eventually('it is asked', () => asked === 1);
  ended();
  await memory.free(signal);
  taken = 2e9;
  memory.ran('small')();
  late.resolve();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await memory.gpu.residents(signal)).toEqual([{ model: 'small', vram: 2e9 }]);
});
