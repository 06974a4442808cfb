// Writes a real, tiny sentence-embedding model in the layout of transformers.js: a word list and one ONNX Gather.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const DIMENSIONS = 8;
const WORDS = ['[UNK]', '[CLS]', '[SEP]', 'dog', 'puppy', 'car', 'the', 'a', 'sleeps', 'drives'];
const FLOAT = 1;
const INT64 = 7;

/** Dog and puppy share most of their vector, car has another; sequences longer than `maxTokens` are cut. */
export async function writeTinyEncoder(dir: string, maxTokens = 512): Promise<void> {
  await mkdir(join(dir, 'onnx'), { recursive: true });
  const files: Record<string, unknown> = {
    'config.json': { model_type: 'bert', architectures: ['BertModel'], max_position_embeddings: maxTokens },
    'tokenizer_config.json': { tokenizer_class: 'BertTokenizer', unk_token: '[UNK]' },
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [],
      normalizer: { type: 'Lowercase' },
      pre_tokenizer: { type: 'Whitespace' },
      post_processor: null,
      decoder: null,
      model: { type: 'WordLevel', unk_token: '[UNK]', vocab: Object.fromEntries(WORDS.map((word, id) => [word, id])) },
    },
  };
  for (const [name, value] of Object.entries(files)) await writeFile(join(dir, name), JSON.stringify(value));
  await writeFile(join(dir, 'onnx', 'model_quantized.onnx'), toOnnx());
}

function rows(): Float32Array {
  const table = new Float32Array(WORDS.length * DIMENSIONS);
  for (const id of WORDS.keys()) table[id * DIMENSIONS + (id % DIMENSIONS)] = 1;
  const dog = WORDS.indexOf('dog') * DIMENSIONS;
  const puppy = WORDS.indexOf('puppy') * DIMENSIONS;
  for (let at = 0; at < DIMENSIONS; at++) table[puppy + at] = table[puppy + at]! * 0.3 + table[dog + at]!;
  return table;
}

/** last_hidden_state = Gather(table, input_ids), as an ONNX ModelProto. */
function toOnnx(): Uint8Array {
  const table = message(
    number(1, WORDS.length),
    number(1, DIMENSIONS),
    number(2, FLOAT),
    text(8, 'table'),
    bytes(9, new Uint8Array(rows().buffer)),
  );
  const gather = message(text(1, 'table'), text(1, 'input_ids'), text(2, 'last_hidden_state'), text(4, 'Gather'));
  const graph = message(
    bytes(1, gather),
    text(2, 'encoder'),
    bytes(5, table),
    bytes(11, value('input_ids', INT64, ['batch', 'length'])),
    bytes(12, value('last_hidden_state', FLOAT, ['batch', 'length', DIMENSIONS])),
  );
  return message(number(1, 8), bytes(7, graph), bytes(8, message(text(1, ''), number(2, 13))));
}

function value(name: string, type: number, dims: (string | number)[]): Uint8Array {
  const shape = message(
    ...dims.map((dim) => bytes(1, message(typeof dim === 'number' ? number(1, dim) : text(2, dim)))),
  );
  return message(text(1, name), bytes(2, message(bytes(1, message(number(1, type), bytes(2, shape))))));
}

// Protocol buffers, the three kinds of fields that ONNX needs here.
function message(...fields: number[][]): Uint8Array {
  return Uint8Array.from(fields.flat());
}
function number(field: number, value: number): number[] {
  return [field << 3, ...varint(value)];
}
function bytes(field: number, value: Uint8Array): number[] {
  return [(field << 3) | 2, ...varint(value.length), ...value];
}
function text(field: number, value: string): number[] {
  return bytes(field, new TextEncoder().encode(value));
}
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}
