// Run by Node, Bun and Deno in turn: prints what the embedded runtime answers there, so that a test can compare them.
import { createHash } from 'node:crypto';
import { openMediaTools } from '../../adapters/media/index.ts';
import { createEmbedded } from '../../adapters/runtimes/embedded/index.ts';
import type { Model } from '../../src/runtime.ts';
import { noFiles } from './no-files.ts';

const tools = openMediaTools({ maxPixels: 1e6 });
const runtime = createEmbedded({ tools, cacheDir: 'no-such-cache', download: false, idleMs: 60_000, queue: 1 });
const models = await runtime.models(AbortSignal.timeout(10_000));

function call(id: string, signal = new AbortController().signal) {
  return { model: models.find((model) => model.id === id) as Model, signal, requestId: 'req_host', file: noFiles };
}

async function tell(seed: number, temperature: number, signal?: AbortSignal, onChunk?: () => void) {
  let chunks = 0;
  const messages = [{ role: 'user' as const, content: 'Tell a story for children about a fox.' }];
  const input = { messages, stream: true, seed, temperature, top_k: 50, max_tokens: 150 };
  for await (const event of runtime.handles['text.chat']!(input, call('tiny-story', signal))) {
    if (event.type === 'chunk') {
      chunks++;
      onChunk?.();
    }
    if (event.type === 'result') return { text: event.result.message.content, chunks };
  }
  throw new Error('no result');
}

const told = await tell(7, 0.8);
const abort = new AbortController();
const aborted = await tell(8, 0.8, abort.signal, () => abort.abort()).then(
  () => 'finished',
  (error: { code?: string }) => error.code,
);
const after = await tell(9, 0);
let dimensions = 0;
let first = 0;
for await (const event of runtime.handles['text.embed']!({ input: 'a brave fox' }, call('tiny-embed'))) {
  if (event.type === 'result')
    ({ dimensions, first } = { dimensions: event.result.dimensions, first: event.result.embeddings[0]![0]! });
}
let picture = '';
const paint = { prompt: 'a red house at night', seed: 7, steps: 4, n: 1, stream: false };
for await (const event of runtime.handles['image.generate']!(paint, call('tiny-t2i'))) {
  if (event.type === 'result') {
    picture = createHash('sha256')
      .update(event.files![0]!.bytes as Uint8Array)
      .digest('hex');
  }
}
console.log(
  JSON.stringify({
    text: told.text,
    chunks: told.chunks,
    aborted,
    after: after.text,
    dimensions,
    first: first.toFixed(6),
    picture,
  }),
);
// Left open on purpose: an idle worker must not keep the program alive.
