// The measures: what one request asks for, how many at a time, and what one unit of work is.

const small = 'Why is the sky blue? Answer in one sentence, please.';
const filler = 'lorem ipsum dolor sit amet, consectetur ';

/**
 * kind: `chat` (OpenAI in, OpenAI upstream) or `ollama` (OpenAI in, Ollama upstream). unit: what a cell's costs are divided by.
 * tokens, paceUs, size: how the mock answers; paceUs 0 is as fast as it can. load: connections, and either how many requests or `timed`.
 */
const cell = (
  name,
  about,
  kind,
  unit,
  { tokens = 10, paceUs = 0, size = 400, stream = unit === 'token', prompt = 0, load },
) => ({
  name,
  about,
  kind,
  unit,
  tokens,
  size,
  stream,
  prompt,
  load,
  model: `mock-t${tokens}-p${paceUs}-s${size}`,
});

export const cells = [
  cell('json_c1', 'one small answer at a time', 'chat', 'request', { load: { connections: 1, timed: true } }),
  cell('json_c32', 'small answers, 32 connections', 'chat', 'request', { load: { connections: 32, timed: true } }),
  cell('json_32k', '32 KB prompt, 4 KB answer, 8 connections', 'chat', 'request', {
    size: 4000,
    prompt: 32768,
    load: { connections: 8, timed: true },
  }),
  cell('sse_short', 'whole streams of 10 tokens, unpaced, 32 connections', 'chat', 'request', {
    stream: true,
    load: { connections: 32, timed: true },
  }),
  cell('ttft_c1', 'one stream at a time; the first token leaves the upstream after 300 us', 'chat', 'token', {
    tokens: 4,
    paceUs: 300,
    load: { connections: 1, timed: true },
  }),
  cell('sse_100', '100 streams of 50 tokens at 50 tokens/s each', 'chat', 'token', {
    tokens: 50,
    paceUs: 20_000,
    load: { connections: 100, requests: 100 },
  }),
  cell('sse_1000', '1000 streams of 30 tokens at 20 tokens/s each', 'chat', 'token', {
    tokens: 30,
    paceUs: 50_000,
    load: { connections: 1000, requests: 1000 },
  }),
  cell('sse_burst', 'streams of 1000 tokens, unpaced, 8 connections', 'chat', 'token', {
    tokens: 1000,
    load: { connections: 8, timed: true },
  }),
  cell('ollama_json', 'Ollama JSON to OpenAI JSON, 32 connections', 'ollama', 'request', {
    load: { connections: 32, timed: true },
  }),
  cell('ollama_100', 'Ollama NDJSON to OpenAI SSE, 100 streams of 50 tokens at 50 tokens/s each', 'ollama', 'token', {
    tokens: 50,
    paceUs: 20_000,
    load: { connections: 100, requests: 100 },
  }),
  cell(
    'ollama_burst',
    'Ollama NDJSON to OpenAI SSE, streams of 1000 tokens, unpaced, 8 connections',
    'ollama',
    'token',
    {
      tokens: 1000,
      load: { connections: 8, timed: true },
    },
  ),
];

/** The model names that the mock lists; Ollama's have the prefix `ollama-`. */
export const mockModels = [...new Set(cells.map((cell) => cell.model))];

export function toBody(cell) {
  const content = cell.prompt ? filler.repeat(cell.prompt / filler.length + 1).slice(0, cell.prompt) : small;
  return JSON.stringify({
    model: cell.kind === 'ollama' ? `ollama-${cell.model}` : cell.model,
    ...(cell.stream ? { stream: true } : {}),
    max_tokens: 256,
    temperature: 0.7,
    messages: [
      { role: 'system', content: 'You are a helpful assistant.' },
      { role: 'user', content },
    ],
  });
}
