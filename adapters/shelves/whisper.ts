// The models of whisper.cpp: one file each.
import type { Shelf, ShelfModel } from './shelf.ts';

/** Name → bytes of its file, about. */
const SIZES: Record<string, number> = {
  tiny: 77_691_713,
  'tiny.en': 77_704_715,
  'tiny-q5_1': 32_152_673,
  'tiny-q8_0': 43_537_433,
  base: 147_951_465,
  'base.en': 147_964_211,
  'base-q5_1': 59_707_625,
  'base-q8_0': 81_768_585,
  small: 487_601_967,
  'small.en': 487_614_201,
  'small-q5_1': 190_085_487,
  'small-q8_0': 264_464_607,
  medium: 1_533_763_059,
  'medium.en': 1_533_774_781,
  'medium-q5_0': 539_212_467,
  'medium-q8_0': 823_369_779,
  'large-v2': 3_094_623_691,
  'large-v2-q5_0': 1_080_732_091,
  'large-v3': 3_095_033_483,
  'large-v3-q5_0': 1_081_140_203,
  'large-v3-turbo': 1_624_555_275,
  'large-v3-turbo-q5_0': 574_041_195,
  'large-v3-turbo-q8_0': 874_188_075,
};

export const whisper: Shelf = {
  runtime: 'whisper',
  folder: 'whisper.cpp/models',
  capabilities: [],
  models: Object.entries(SIZES).map(([name, size]): ShelfModel => ({
    id: `whisper-${name}`,
    title: `Whisper ${name} for whisper.cpp: speech to text`,
    aliases: [`ggml-${name}.bin`, `ggml-${name}`],
    parts: [{ repo: 'ggerganov/whisper.cpp', files: `ggml-${name}.bin` }],
    license: 'MIT',
    size,
  })),
};
