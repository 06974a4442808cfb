// What the fake OpenAI-compatible server says: the deltas of each model's answer, and how that model's stream misbehaves.
import { createHash } from 'node:crypto';

/**
 * What each model does when asked for text:
 * echo: ten tokens that follow from the messages and the seed · slow: a token every 50 ms, 1000 of them · silent: accepts, never answers ·
 * hang: two tokens, then nothing · reset: two tokens, then the connection breaks · truncated: ends without finish_reason and [DONE] ·
 * cut: ends inside an event · eof: ends without [DONE] · garbage: HTML under 200 · rubbish: text that is no stream · error-mid: a failure in an event ·
 * error-first: the same at once · error-named: `event: error` · error-line: `error: …` as old llama.cpp · error-200: a failure as JSON under 200 ·
 * error-text: `data: {"error":"text"}`, then [DONE] · whole: an answer that is not streamed though that was asked · tools: calls without index, id or with objects ·
 * tools-whole: two calls in one delta, both number 0 · tools-text: OpenAI's own deltas · reasoner: reasoning_content, counted apart · thinker: reasoning ·
 * logprobs: as asked, in the shape of the route · twice: more after [DONE], and [DONE] again · usage-last: usage on the last piece · usage-every: on all ·
 * uncounted: no usage · crlf: CRLF and comments · utf8: characters cut across TCP writes · busy: 503 · limited: 429 · detail: FastAPI's 422 ·
 * oom: 500 · picky: refuses knobs that not all servers have · context: 400, prompt too long · plain: 400 with `{"error":"text"}` ·
 * seer-vl: the sizes of the PNG pictures that it was shown.
 */
export const TEXT_MODELS =
  `echo slow silent hang reset truncated cut eof garbage rubbish error-mid error-first error-named error-line
  error-200 error-text whole tools tools-whole tools-text reasoner thinker logprobs twice usage-last usage-every uncounted crlf utf8 busy
  limited detail oom picky context plain seer-vl`.split(/\s+/);

export const UTF8_TEXT = 'Grüße 🧜‍♀️ aus 東京 🌊';
const WORDS =
  'amber birch cedar delta ember flint grove heron indigo juniper kelp lumen maple noon ochre pine quartz'.split(' ');

export type Json = Record<string, any>;

export interface Script {
  chat: boolean;
  deltas: Json[];
  finish: string;
  usage: Json;
}

export function toScript(chat: boolean, body: Json): Script {
  const model: string = body['model'];
  const prompt = chat ? JSON.stringify(body['messages']) : String(body['prompt']);
  const called = model.startsWith('tools') && body['messages']?.at(-1)?.role !== 'tool';
  const thoughts = model === 'reasoner' || model === 'thinker' ? ['Let', ' me', ' see'] : [];
  const limit: number = body['max_tokens'] ?? body['max_completion_tokens'] ?? Infinity;
  let tokens = called ? [] : toTokens(model, prompt, body);
  const wholeLength = tokens.join('').length;
  tokens = stopAt(tokens, [body['stop'] ?? []].flat());
  const stopped = tokens.join('').length < wholeLength;
  const cut = tokens.length > limit || (tokens.length === limit && !stopped);
  if (cut) tokens = tokens.slice(0, limit);
  const echoed = body['echo'] ? prompt.split(/(?<=\s)/) : [];
  const shown = [...echoed, ...tokens];
  const deltas = [
    ...thoughts.map((text) => (model === 'thinker' ? { reasoning: text } : { reasoning_content: text })),
    ...(called ? toCalls(model) : shown.map((text) => ({ content: text }))),
  ];
  const counted = count(prompt);
  const made = called ? 20 : tokens.length + (model === 'thinker' ? thoughts.length : 0);
  const apart = model === 'reasoner' ? thoughts.length : 0;
  return {
    chat,
    deltas,
    // Some say `stop` after a call.
    finish: called ? (model === 'tools' ? 'stop' : 'tool_calls') : cut ? 'length' : 'stop',
    usage: {
      prompt_tokens: counted,
      completion_tokens: made,
      total_tokens: counted + made + apart,
      ...(apart ? { completion_tokens_details: { reasoning_tokens: apart } } : {}),
    },
  };
}

/** One `choices[0]` of a stream, or of a whole answer. */
export function toChoice(script: Script, delta: Json, finish: string | null, body: Json, streamed: boolean): Json {
  const wanted = body['logprobs'] !== undefined && body['logprobs'] !== false && body['model'] !== 'uncounted';
  const texts: string[] = delta['parts'] ?? (delta['content'] ? [delta['content']] : []);
  const scores = wanted && texts.length > 0 ? toLogprobs(script.chat, texts, body) : null;
  const { parts: _, ...said } = delta;
  const common = { index: 0, logprobs: scores, finish_reason: finish };
  if (!script.chat) return { ...common, text: said['content'] ?? '' };
  return streamed
    ? { ...common, delta: said }
    : { ...common, message: { role: 'assistant', content: null, refusal: null, ...said } };
}

/** All deltas as one message. */
export function toMessage(script: Script): Json {
  const texts = (name: string) => script.deltas.flatMap((delta) => delta[name] ?? []);
  const message: Json = { content: texts('content').join(''), parts: texts('content') };
  for (const name of ['reasoning', 'reasoning_content'])
    if (texts(name).length > 0) message[name] = texts(name).join('');
  const calls = texts('tool_calls');
  if (calls.length > 0) message['tool_calls'] = calls.filter((call: Json) => call['function']?.name);
  return message;
}

export function count(text: string): number {
  return Math.max(1, text.split(/\s+/).length);
}

function toTokens(model: string, prompt: string, body: Json): string[] {
  if (model === 'utf8') return [...UTF8_TEXT].map(String);
  if (model === 'seer-vl') return [`saw ${toSizes(body['messages'] ?? []).join(' and ') || 'nothing'}`];
  const hash = createHash('sha256').update(`${prompt}#${body['seed']}`).digest();
  const word = (at: number) => WORDS[hash[at % hash.length]! % WORDS.length]!;
  if (model === 'slow') return Array.from({ length: 1000 }, (_, at) => `${at === 0 ? '' : ' '}${word(at)}`);
  return Array.from({ length: 10 }, (_, at) => `${at === 0 ? '' : ' '}${word(at)}${at}`);
}

/** As the headers of the pictures in the messages say: none but PNG in data: URLs are seen. */
function toSizes(messages: Json[]): string[] {
  const parts: Json[] = messages.flatMap(({ content }) => (Array.isArray(content) ? content : []));
  return parts.flatMap(({ image_url }) => {
    const [, text] = /^data:image\/png;base64,(.+)$/.exec(image_url?.url ?? '') ?? [];
    const bytes = Buffer.from(text ?? '', 'base64');
    return bytes.length < 24 ? [] : [`${bytes.readUInt32BE(16)}x${bytes.readUInt32BE(20)}`];
  });
}

function stopAt(tokens: string[], stops: string[]): string[] {
  const text = tokens.join('');
  const at = Math.min(...stops.map((stop) => text.indexOf(stop)).filter((at) => at !== -1), text.length);
  if (at === text.length) return tokens;
  const kept: string[] = [];
  for (let left = at; left > 0;) {
    const token = tokens[kept.length]!.slice(0, left);
    kept.push(token);
    left -= token.length;
  }
  return kept;
}

function toCalls(model: string): Json[] {
  const oslo = { city: 'Oslo' };
  if (model === 'tools') {
    return [
      { tool_calls: [{ function: { name: 'get_weather', arguments: oslo } }] },
      { tool_calls: [{ id: 'call_two', function: { name: 'get_time', arguments: '{"zone":' } }] },
      { tool_calls: [{ function: { arguments: '"CET"}' } }] },
      { tool_calls: [{ function: { name: 'ping' } }] },
    ];
  }
  if (model === 'tools-whole') {
    const call = (id: string, name: string) => ({
      index: 0,
      id,
      type: 'function',
      function: { name, arguments: JSON.stringify(oslo) },
    });
    return [{ tool_calls: [call('a', 'get_weather'), call('b', 'get_time')] }];
  }
  const begin = (index: number, name: string) => ({
    index,
    id: `call_${index + 1}`,
    type: 'function',
    function: { name, arguments: '' },
  });
  return [
    { tool_calls: [begin(0, 'get_weather')] },
    { tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] },
    { tool_calls: [{ index: 0, function: { arguments: '"Oslo"}' } }] },
    { tool_calls: [begin(1, 'get_time')] },
    { tool_calls: [{ index: 1, function: { arguments: '{}' } }] },
  ];
}

function toLogprobs(chat: boolean, texts: string[], body: Json): Json {
  const most: number = chat ? (body['top_logprobs'] ?? 0) : body['logprobs'];
  const others = Array.from({ length: most }, (_, at) => ({ token: `alt${at}`, logprob: -0.5 - at, bytes: null }));
  if (chat) {
    const content = texts.map((token) => ({
      token,
      logprob: -0.25,
      bytes: [...Buffer.from(token)],
      top_logprobs: others,
    }));
    return { content, refusal: null };
  }
  // The very first token of an echoed prompt has nothing to follow.
  const first = body['echo'] && String(body['prompt']).startsWith(texts[0]!);
  return {
    tokens: texts,
    token_logprobs: texts.map((_, at) => (first && at === 0 ? null : -0.25)),
    top_logprobs: texts.map(() => Object.fromEntries(others.map(({ token, logprob }) => [token, logprob]))),
    text_offset: texts.map(() => 0),
  };
}
