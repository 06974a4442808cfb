// The models that are known by name, and how the files of any model for this engine are called.
import type { Model } from '../../../src/runtime.ts';
import type { Dtype, Sampling } from './wire.ts';

export type Kind = 'chat' | 'base' | 'embed' | 'picture';

export interface Entry {
  id: string;
  alias?: string;
  kind: Kind;
  origin: 'builtin' | 'hub' | 'local';
  /** Tokens; 0 for a model that reads none. */
  context: number;
  /** Vector length of an embedding model. */
  dimensions?: number;
  tiny?: boolean;
  /** Its chat template leaves system messages out. */
  ignoresSystem?: boolean;
  /** Sampling where the caller leaves it open. */
  defaults?: Partial<Sampling>;
  /** Weights to look for, best first; hub models only. */
  weights: Weights[];
  /** Higher is preferred once it is on disk. */
  rank: number;
}

/** `onnx/<file><suffix of dtype>.onnx`. */
export interface Weights {
  file: string;
  dtype: Dtype;
}

/** 8-bit weights first: on WebAssembly 4-bit ones run ten times slower, and larger ones only cost memory. */
const BY_SPEED: Dtype[] = ['q8', 'int8', 'uint8', 'fp32', 'fp16', 'q4', 'q4f16'];
const SUFFIX: Record<Dtype, string> = {
  q8: '_quantized',
  int8: '_int8',
  uint8: '_uint8',
  fp32: '',
  fp16: '_fp16',
  q4: '_q4',
  q4f16: '_q4f16',
};
/** As folders of models that nobody here knows may have them, best first. */
export const ANY_WEIGHTS: Weights[] = ['model', 'decoder_model_merged'].flatMap((file) =>
  BY_SPEED.map((dtype) => ({ file, dtype })),
);
const BUILTIN_WEIGHTS: Weights[] = [{ file: 'model', dtype: 'q8' }];
const REPEATS_ITSELF = { repeatPenalty: 1.15 };

const CAPABILITIES: Record<Kind, Model['capabilities']> = {
  chat: ['text.generate', 'text.chat'],
  base: ['text.generate'],
  embed: ['text.embed'],
  picture: ['image.generate'],
};

export const catalogue: Entry[] = [
  {
    id: 'tiny-story',
    kind: 'chat',
    origin: 'builtin',
    context: 512,
    tiny: true,
    ignoresSystem: true,
    weights: BUILTIN_WEIGHTS,
    rank: 10,
  },
  {
    id: 'tiny-embed',
    kind: 'embed',
    origin: 'builtin',
    context: 4096,
    dimensions: 96,
    tiny: true,
    weights: [],
    rank: 10,
  },
  { id: 'tiny-t2i', kind: 'picture', origin: 'builtin', context: 0, tiny: true, weights: [], rank: 10 },
  {
    id: 'HuggingFaceTB/SmolLM2-135M-Instruct',
    alias: 'smollm2',
    kind: 'chat',
    origin: 'hub',
    context: 2048,
    defaults: { repeatPenalty: 1.1 },
    weights: ['q8', 'int8', 'uint8', 'fp32'].map((dtype) => ({ file: 'model', dtype: dtype as Dtype })),
    rank: 30,
  },
  {
    id: 'Xenova/gpt2',
    alias: 'gpt2',
    kind: 'base',
    origin: 'hub',
    context: 1024,
    defaults: REPEATS_ITSELF,
    weights: [
      { file: 'decoder_model_merged', dtype: 'q8' },
      { file: 'model', dtype: 'q8' },
      { file: 'model', dtype: 'int8' },
    ],
    rank: 20,
  },
  {
    id: 'onnx-community/gpt2-medium-ONNX',
    alias: 'gpt2-medium',
    kind: 'base',
    origin: 'hub',
    context: 1024,
    defaults: REPEATS_ITSELF,
    weights: ['q8', 'int8', 'uint8'].map((dtype) => ({ file: 'model', dtype: dtype as Dtype })),
    rank: 21,
  },
  {
    id: 'Xenova/all-MiniLM-L6-v2',
    alias: 'minilm',
    kind: 'embed',
    origin: 'hub',
    context: 512,
    dimensions: 384,
    weights: [
      { file: 'model', dtype: 'q8' },
      { file: 'model', dtype: 'fp32' },
    ],
    rank: 30,
  },
];

export const capabilitiesOf = ({ kind }: Pick<Entry, 'kind'>): Model['capabilities'] => CAPABILITIES[kind];

export function weightsFile({ file, dtype }: Weights): string {
  return `onnx/${file}${SUFFIX[dtype]}.onnx`;
}
