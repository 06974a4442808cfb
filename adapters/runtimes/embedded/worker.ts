// A model worker: loads models, runs one task at a time and reports to the gateway's thread.
import { parentPort, workerData } from 'node:worker_threads';
import { GatewayError } from '../../../src/error.ts';
import { loadEngine, loadLibrary } from './engine.ts';
import { loadFlow, type PaintControl } from './flow.ts';
import { loadGguf } from './gguf.ts';
import { type Control, loadOnnx } from './onnx.ts';
import type {
  EmbedTask,
  EngineSettings,
  FlowFiles,
  FromWorker,
  Generated,
  GenerateTask,
  LoadTask,
  ModelFiles,
  PaintTask,
  Task,
  TextFiles,
  ToWorker,
} from './wire.ts';

type Controls = Control & PaintControl;

interface Loaded {
  files: ModelFiles;
  run(task: Task, control: Controls): Promise<FromWorker>;
  dispose(): Promise<unknown>;
}

const loaded = new Map<string, Loaded>();
let library: ReturnType<typeof loadLibrary> | undefined;

// The gateway sends the next task only after the end of the last one, so no queue is needed here.
parentPort!.on('message', ({ task, cancel }: ToWorker) => {
  const flag = new Int32Array(cancel);
  const cancelled = () => Atomics.load(flag, 0) !== 0;
  const control: Controls = {
    cancelled,
    chunk: (text, logprobs) => send({ type: 'chunk', text, logprobs }),
    warn: (warning) => send({ type: 'warning', warning }),
    step: (done, total) => send({ type: 'step', done, total }),
    look: (pixels) => send({ type: 'look', pixels }),
  };
  run(task, control).then(
    (end) => send(cancelled() && end.type !== 'moved' ? { type: 'cancelled' } : end),
    (error: unknown) => send(failed(error, task)),
  );
});

async function run(task: Task, control: Controls): Promise<FromWorker> {
  let model = loaded.get(task.model.id);
  if (task.kind === 'unload') {
    loaded.delete(task.model.id);
    await model?.dispose();
    return moved();
  }
  if (!model) {
    send({ type: 'loading' });
    await makeRoom(task.model);
    model = await load(task, control);
    loaded.set(task.model.id, model);
  }
  if (task.kind === 'load') return moved();
  send({ type: 'running', models: [...loaded.keys()] });
  return control.cancelled() ? { type: 'cancelled' } : model.run(task, control);
}

function moved(): FromWorker {
  return { type: 'moved', models: [...loaded.keys()] };
}

async function load(task: GenerateTask | EmbedTask | PaintTask | LoadTask, control: Controls): Promise<Loaded> {
  const { model } = task;
  if (model.format === 'flow') return loadPainter(model, control);
  const as = task.kind === 'load' ? task.as : task.kind;
  return loadText(model, as === 'embed' ? 'embed' : 'generate', control);
}

async function loadPainter(files: FlowFiles, control: Controls): Promise<Loaded> {
  const engine = await loadEngine(workerData as EngineSettings);
  if (engine.warning) control.warn(engine.warning);
  const model = await loadFlow(engine, files);
  return {
    files,
    run: async (next, nextControl) => ({
      type: 'painted',
      pictures: await model.paint(next as PaintTask, nextControl),
    }),
    dispose: model.dispose,
  };
}

async function loadText(files: TextFiles, kind: 'generate' | 'embed', control: Controls): Promise<Loaded> {
  if (files.format === 'gguf') {
    const model = await loadGguf(files, (workerData as EngineSettings).threads);
    return {
      files,
      run: async (next, nextControl) => generated(await model.generate(next as GenerateTask, nextControl)),
      dispose: model.dispose,
    };
  }
  library ??= loadLibrary(workerData as EngineSettings);
  const opened = await library;
  if (opened.warning) control.warn(opened.warning);
  const model = await loadOnnx(opened.library, files, kind);
  return {
    files,
    run: async (next, nextControl) =>
      next.kind === 'generate'
        ? generated(await model.generate(next, nextControl))
        : { type: 'embedded', result: await model.embed(next as EmbedTask, nextControl) },
    dispose: model.dispose,
  };
}

/** Two large models would not fit beside each other in a small machine's memory. */
async function makeRoom(next: ModelFiles): Promise<void> {
  if (next.small) return;
  for (const [id, other] of loaded) {
    if (other.files.small) continue;
    loaded.delete(id);
    await other.dispose();
  }
}

function generated(result: Generated): FromWorker {
  return { type: 'generated', result };
}

function failed(error: unknown, task: Task): FromWorker {
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (error instanceof GatewayError) {
    const { code, message, hint, param } = error;
    return { type: 'failed', code, message, hint, param, broken: false, detail };
  }
  const memory = /out of memory|bad_alloc|Array buffer allocation|memory access out of bounds/i.test(detail);
  const opened = loaded.has(task.model.id);
  return {
    type: 'failed',
    code: opened ? 'upstream_error' : 'model_unavailable',
    message: memory
      ? `There is not enough memory for ${task.model.id}.`
      : `The embedded engine failed to ${opened ? 'run' : 'load'} ${task.model.id}.`,
    hint: memory
      ? 'Use a smaller model, or free memory.'
      : 'The log holds the details; the files of the model may be damaged.',
    param: undefined,
    broken: true,
    detail,
  };
}

function send(message: FromWorker): void {
  parentPort!.postMessage(message, []);
}
