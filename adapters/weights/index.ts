// What files of weights say of themselves: read from their headers, wherever they lie.
export { readGguf, toKvPerToken, toParameters } from './gguf.ts';
export type { GgufFacts, GgufOptions } from './gguf.ts';
export { readSafetensors, readSafetensorsIndex } from './safetensors.ts';
export type { SafetensorsFacts, SafetensorsIndex } from './safetensors.ts';
export type { ReadRange } from './header.ts';
