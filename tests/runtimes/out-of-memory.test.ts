// A runtime on the card that ran out of memory says so in many words: all of them are insufficient_vram, and others are not.
import { describe, expect, it } from 'vitest';
import { toFailure as toA1111Failure } from '../../adapters/runtimes/a1111/wire.ts';
import { toTaskFailure } from '../../adapters/runtimes/acestep/wire.ts';
import { toExecutionFailure } from '../../adapters/runtimes/comfyui/failure.ts';
import { toFailure as toOllamaFailure, toPart } from '../../adapters/runtimes/ollama/wire.ts';
import type { GatewayError } from '../../src/error.ts';
import { createUpstream, fetchTransport } from '../../src/upstream.ts';

const limits = { firstByteMs: 1000, idleMs: 1000, controlMs: 1000, maxReplyBytes: 1000 };
const upstream = createUpstream({
  name: 'r',
  baseUrl: 'http://127.0.0.1:9',
  transport: fetchTransport,
  limits,
  hint: '',
});

/** What says it → the failure that comes of it. */
const says: Record<string, (text: string) => GatewayError> = {
  ollama: (text) => toOllamaFailure(upstream, 500, JSON.stringify({ error: text }), 'm'),
  comfyui(text) {
    const [exception_type, exception_message] = toParts(text);
    return toExecutionFailure(
      { node_type: 'KSampler', exception_type, exception_message },
      { source: 'r', model: 'm' },
    );
  },
  a1111(text) {
    const [error, errors] = toParts(text);
    return toA1111Failure(upstream, 500, JSON.stringify({ error, detail: '', body: '', errors }));
  },
  acestep: (text) => toTaskFailure(upstream, `Traceback (most recent call last):\n  File "x.py", line 1\n${text}\n`),
};

function toParts(text: string): [type: string, message: string] {
  const colon = text.indexOf(': ');
  return [text.slice(0, colon), text.slice(colon + 2)];
}

const torch = [
  'torch.OutOfMemoryError: Allocation on device',
  'torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB',
  'RuntimeError: HIP out of memory. Tried to allocate 20.00 MiB',
  'RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`',
  'RuntimeError: CUDA error: out of memory',
];

describe('out of memory', () => {
  it.each([
    ...['comfyui', 'a1111', 'acestep'].flatMap((runtime) => torch.map((text) => [runtime, text] as const)),
    ['ollama', 'llama runner process has terminated: cudaMalloc failed: out of memory'],
    ['ollama', 'model requires more system memory (12.0 GiB) than is available (7.9 GiB)'],
    ['ollama', 'vk::Device::allocateMemory: ErrorOutOfDeviceMemory'],
    ['ollama', 'ggml_vulkan: VK_ERROR_OUT_OF_DEVICE_MEMORY'],
    ['ollama', 'hipMalloc failed: hipErrorOutOfMemory'],
    ['ollama', 'error loading model: unable to allocate ROCm0 buffer'],
    ['ollama', 'llama_init_from_model: failed to initialize the context: failed to allocate compute pp buffers'],
    ['ollama', 'CUDA error: CUBLAS_STATUS_ALLOC_FAILED'],
    ['ollama', 'insufficient memory - required allocations: {…}'],
    ['acestep', 'ValueError: Insufficient GPU memory for KV cache. Increase gpu_memory_utilization'],
  ] as const)('of %s is told: %s', (runtime, text) => {
    expect(says[runtime]!(text)).toMatchObject({ code: 'insufficient_vram', retry: false });
  });

  it('of Ollama is told also where its answer had begun', () => {
    const line = JSON.stringify({ error: 'an error was encountered: CUDA error: out of memory' });
    expect(() => toPart(line, upstream, 'm')).toThrow(expect.objectContaining({ code: 'insufficient_vram' }));
  });

  it.each([
    ...['comfyui', 'a1111', 'acestep'].map((runtime) => [runtime, 'ValueError: cannot read the memory map'] as const),
    ['ollama', 'llama runner process has terminated: GGML_ASSERT(n <= 4) failed'],
  ] as const)('is not what else goes wrong in %s: %s', (runtime, text) => {
    expect(says[runtime]!(text).code).not.toBe('insufficient_vram');
  });
});
