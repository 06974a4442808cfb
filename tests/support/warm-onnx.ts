// Compiles what every worker of the embedded runtime compiles, once for all tests of this process: V8 shares it as long as somebody holds it.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = new URL('ort-wasm-simd-threaded.wasm', import.meta.resolve('onnxruntime-web'));

/** Held, and used by nobody. */
export const compiled = new WebAssembly.Module(readFileSync(fileURLToPath(path)));
