// Opens the inference engine on WebAssembly, or on onnxruntime-node where that is installed, and the library on top of it; once per worker.
import type { EngineSettings } from './wire.ts';

export type Library = typeof import('@huggingface/transformers');
type Ort = typeof import('onnxruntime-web');

/** The part of the engine that runs a network by itself. */
export interface Engine {
  Tensor: Ort['Tensor'];
  open(network: Uint8Array): Promise<Session>;
  /** Where the caller asked for an engine that is not there. */
  warning: string | undefined;
}
export type Session = Awaited<ReturnType<Ort['InferenceSession']['create']>>;

export async function loadEngine(settings: EngineSettings): Promise<Engine> {
  const native = settings.engine === 'wasm' ? undefined : await importNative();
  const ort = native ?? (await import('onnxruntime-web'));
  const provider = native ? 'cpu' : 'wasm';
  if (!native) {
    ort.env.wasm.numThreads = settings.threads;
    ort.env.wasm.wasmPaths = wasmFolder();
  }
  ort.env.logLevel = 'fatal';
  // Left to itself, the library would also try graphics cards, which belong to the other runtimes.
  const create = (network: Uint8Array, options: object = {}) =>
    ort.InferenceSession.create(network, {
      ...options,
      executionProviders: [provider],
      ...(native && { intraOpNumThreads: settings.threads }),
    });
  provide(ort, create);
  const warning =
    settings.engine === 'native' && !native
      ? 'The native engine (onnxruntime-node) is not installed; WebAssembly was used.'
      : undefined;
  return { Tensor: ort.Tensor, open: create, warning };
}

/** Resolves with the library and, where the caller asked for an engine that is not there, a warning. */
export async function loadLibrary(
  settings: EngineSettings,
): Promise<{ library: Library; warning: string | undefined }> {
  const { warning } = await loadEngine(settings);
  const library = await import('@huggingface/transformers');
  const { env } = library;
  // The gateway downloads and checks files itself; in here nothing may reach for the network.
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.useFS = true;
  env.useFSCache = false;
  env.useBrowserCache = false;
  env.useWasmCache = false;
  env.logLevel = library.LogLevel.NONE;
  // It may have pointed them at a server of its own.
  if (env.backends.onnx.wasm) env.backends.onnx.wasm.wasmPaths = wasmFolder();
  return { library, warning };
}

function wasmFolder(): string {
  return new URL('.', import.meta.resolve('onnxruntime-web')).href;
}

/** The package is often replaced by a stub without binaries; only the real one lists its backends. */
async function importNative(): Promise<Ort | undefined> {
  try {
    const found = (await import('onnxruntime-node' as string)) as { default?: object };
    const ort = { ...found.default, ...found };
    return 'listSupportedBackends' in ort ? (ort as unknown as Ort) : undefined;
  } catch {
    return undefined;
  }
}

/** The library takes the engine that a host offers under this symbol; it must be there before the library loads. */
function provide(ort: Ort, create: Engine['open']): void {
  Reflect.set(globalThis, Symbol.for('onnxruntime'), {
    ...ort,
    env: ort.env,
    Tensor: ort.Tensor,
    InferenceSession: { create },
  });
  // The location of a Deno worker has no address, and the library builds URLs on it.
  if ('Deno' in globalThis) {
    Object.defineProperty(globalThis, 'location', { value: new URL('http://localhost/'), configurable: true });
  }
}
