// What the gateway's thread and a model worker say to each other: plain data that survives structured clone.
import type { ErrorCode } from '../../../src/error.ts';
import type { TokenLogprob } from '../../../src/capabilities/text/fields.ts';

export interface EngineSettings {
  /** `auto` takes onnxruntime-node where the real one is installed, else WebAssembly. */
  engine: 'auto' | 'wasm' | 'native';
  threads: number;
}

/** Weight formats as the inference library names them; each is a suffix of the file's name. */
export type Dtype = 'q8' | 'int8' | 'uint8' | 'fp32' | 'fp16' | 'q4' | 'q4f16';

/** Where the files of a model lie and how to open them. */
export type ModelFiles = TextFiles | FlowFiles;

export type TextFiles =
  | {
      format: 'onnx';
      id: string;
      /** Folder with config.json, tokenizer.json and onnx/. */
      dir: string;
      /** `model` or `decoder_model_merged`, without suffix. */
      file: string;
      dtype: Dtype;
      context: number;
      /** Small enough to stay in memory beside another model. */
      small: boolean;
    }
  | { format: 'gguf'; id: string; path: string; context: number; small: boolean };

/** A network that makes pictures out of noise. */
export interface FlowFiles {
  format: 'flow';
  id: string;
  path: string;
  small: boolean;
}

export interface Sampling {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repeatPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  seed: number;
}

export interface TemplateMessage {
  role: 'system' | 'user' | 'assistant' | 'tool';
  content: string;
}

export interface GenerateTask {
  kind: 'generate';
  model: TextFiles;
  /** Text as it is, or messages for the model's chat template. */
  prompt: string | TemplateMessage[];
  echo: boolean;
  maxTokens: number;
  stop: string[];
  sampling: Sampling;
  /** How many alternatives to report per token; undefined is no log-probabilities at all. */
  logprobs: number | undefined;
}

export interface EmbedTask {
  kind: 'embed';
  model: TextFiles;
  input: string[];
}

export interface PaintTask {
  kind: 'paint';
  model: FlowFiles;
  /** Places of the words in the network's vocabulary, 0 for none. */
  words: number[];
  /** One picture each. */
  seeds: number[];
  steps: number;
  guidance: number;
  /** A look at the picture comes every so many steps. */
  previewEvery: number;
}

/** Into memory, for what it will be asked. */
export interface LoadTask {
  kind: 'load';
  model: ModelFiles;
  as: 'generate' | 'embed' | 'paint';
}

/** Out of memory, as far as the engine gives it back while the worker lives. */
export interface UnloadTask {
  kind: 'unload';
  model: Pick<ModelFiles, 'id'>;
}

export type Task = GenerateTask | EmbedTask | PaintTask | LoadTask | UnloadTask;

export interface ToWorker {
  task: Task;
  /** One Int32: the gateway sets it to 1 to stop the task after the token or step at hand. */
  cancel: SharedArrayBuffer;
}

export interface Generated {
  text: string;
  finish: 'stop' | 'length';
  promptTokens: number;
  completionTokens: number;
  logprobs: TokenLogprob[] | undefined;
}

export interface Embedded {
  embeddings: number[][];
  promptTokens: number;
}

/** RGB bytes, row by row. */
export type Pixels = Uint8Array<ArrayBuffer>;

export type FromWorker =
  | { type: 'loading' }
  /** `models` are all that this worker now holds in memory. */
  | { type: 'running'; models: string[] }
  | { type: 'warning'; warning: string }
  | { type: 'chunk'; text: string; logprobs: TokenLogprob[] | undefined }
  | { type: 'generated'; result: Generated }
  | { type: 'embedded'; result: Embedded }
  | { type: 'step'; done: number; total: number }
  | { type: 'look'; pixels: Pixels }
  | { type: 'painted'; pictures: Pixels[] }
  /** The end of a task that only moved a model; `models` as above. */
  | { type: 'moved'; models: string[] }
  | { type: 'cancelled' }
  /** `broken`: the engine may be damaged, so this worker must not be used again. */
  | {
      type: 'failed';
      code: ErrorCode;
      message: string;
      hint: string | undefined;
      param: string | undefined;
      broken: boolean;
      detail: string;
    };
