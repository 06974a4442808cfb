// What the fake Ollama says: which models it has, what it refuses, and the lines of each model's answer.
import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

/**
 * What each model does when asked for text:
 * echo: ten tokens that follow from prompt and seed · slow: a token every 50 ms, 1000 of them · silent: accepts, never answers ·
 * hang: two tokens, then nothing · reset: two tokens, then the connection breaks · truncated: ends without `done` ·
 * garbage: HTML under 200 · errorline, oomline: two tokens, then an error line · oom: 500 out of memory · thinker: thinking, then text ·
 * tools: two calls in two lines, the second without an id · utf8: characters cut across TCP writes · uncounted: no counters ·
 * vision: takes images · sticky: never unloads · embedder: vectors only · cloud: runs elsewhere, so it never loads.
 */
export const MODELS: Record<string, string[]> = {
  echo: ['completion', 'tools', 'insert'],
  slow: ['completion'],
  silent: ['completion'],
  hang: ['completion'],
  reset: ['completion'],
  truncated: ['completion'],
  garbage: ['completion'],
  errorline: ['completion'],
  oomline: ['completion'],
  oom: ['completion'],
  thinker: ['completion', 'thinking'],
  tools: ['completion', 'tools'],
  utf8: ['completion'],
  uncounted: ['completion'],
  vision: ['completion', 'vision'],
  sticky: ['completion'],
  embedder: ['embedding'],
  cloud: ['completion'],
};
const WORDS =
  'amber birch cedar delta ember flint grove heron indigo juniper kelp lumen maple noon ochre pine quartz'.split(' ');
export const UTF8_TEXT = 'Grüße 🧜‍♀️ aus 東京 🌊';

export type Body = Record<string, any>;

export interface Ask {
  chat: boolean;
  model: string;
  body: Body;
  response: ServerResponse;
  old: boolean;
  tokenMs: number;
}

/** Connections that this side broke, so that they are not counted as the client's doing. */
export const broken = new WeakSet<ServerResponse>();

export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** What the real server checks before it loads anything. */
export function validate(chat: boolean, model: string, can: string[], body: Body, old: boolean): void {
  if (!can.includes('completion')) throw new Refusal(400, `"${model}" does not support ${chat ? 'chat' : 'generate'}`);
  if (body['think'] && !can.includes('thinking')) throw new Refusal(400, `"${model}" does not support thinking`);
  if (old && typeof body['think'] === 'string')
    throw new Refusal(400, `think value "${body['think']}" is not supported for this model`);
  if (body['tools']?.length && !can.includes('tools'))
    throw new Refusal(400, `registry.ollama.ai/library/${model}:latest does not support tools`);
  if (body['suffix'] && !can.includes('insert'))
    throw new Refusal(400, `registry.ollama.ai/library/${model}:latest does not support insert`);
  if (body['raw'] && body['system']) throw new Refusal(400, 'raw mode does not support template, system, or context');
  for (const name of ['num_ctx', 'num_predict', 'seed', 'top_k']) {
    const value: unknown = body['options']?.[name];
    if (value !== undefined && !Number.isInteger(value))
      throw new Refusal(500, `option "${name}" must be of type integer`);
  }
  const messages: Body[] = body['messages'] ?? [];
  for (const image of [...(body['images'] ?? []), ...messages.flatMap((message) => message['images'] ?? [])]) {
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(image)) throw new Refusal(400, 'illegal base64 data at input byte 4');
  }
  for (const message of messages) {
    if (typeof message['content'] !== 'string')
      throw new Refusal(400, 'json: cannot unmarshal array into Go struct field');
    for (const call of message['tool_calls'] ?? []) {
      if (typeof call.function.arguments !== 'object')
        throw new Refusal(400, 'json: cannot unmarshal string into Go struct field');
    }
  }
}

export async function speak(ask: Ask): Promise<void> {
  const { model, response, body } = ask;
  if (model === 'silent') return;
  if (model === 'garbage')
    return void response.writeHead(200, { 'content-type': 'text/html' }).end('<html><body>Welcome</body></html>\n');
  const script = toScript(ask);
  if (body['stream'] === false) {
    const whole = script.lines.reduce((all, line) => merge(all, line), frame(model, ask.chat, ''));
    return sendJson(response, { ...whole, ...script.last });
  }
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  for (const line of script.lines) {
    if (response.destroyed) return;
    await write(response, line, model === 'utf8');
    await pause(model === 'slow' ? 50 : ask.tokenMs);
  }
  if (model === 'hang') return;
  if (model === 'reset') {
    broken.add(response);
    return void response.destroy();
  }
  if (model === 'truncated') return void response.end();
  if (model === 'errorline')
    return void response.end(
      '{"error":"llama-server died: open /root/.ollama/models/blobs/x: EOF at 127.0.0.1:40001"}\n',
    );
  if (model === 'oomline') return void response.end('{"error":"CUDA error: out of memory"}\n');
  response.end(JSON.stringify(script.last) + '\n');
}

/** The lines of an answer, and the last one with its counters. */
function toScript({ chat, model, body, old }: Ask): { lines: Body[]; last: Body } {
  const options: Body = body['options'] ?? {};
  const prompt: string = chat ? body['messages'].map((message: Body) => message['content']).join('\n') : body['prompt'];
  const lastMessage: Body = body['messages']?.at(-1) ?? {};
  const calls = model === 'tools' && lastMessage['role'] !== 'tool' && body['tools']?.length;
  let tokens = calls ? [] : toTokens(model, prompt, body, lastMessage);
  const limit: number = options['num_predict'] > 0 ? options['num_predict'] : Infinity;
  const cut = stopAt(tokens, options['stop'] ?? []);
  let reason = 'stop';
  if (cut.length <= limit) tokens = cut;
  else {
    tokens = tokens.slice(0, limit);
    reason = 'length';
  }
  const lines = tokens.map((token) => ({
    ...frame(model, chat, token),
    ...(body['logprobs'] && !old ? { logprobs: [toLogprob(token, Math.max(1, body['top_logprobs'] ?? 0))] } : {}),
  }));
  if (model === 'thinker' && body['think'] !== false) {
    lines.unshift(...['Let me', ' think.'].map((thought) => frame(model, chat, '', thought)));
  }
  if (calls) lines.push(toCallLine(model, body, 0, 'call_fake0001'), toCallLine(model, body, 1, undefined));
  const counters =
    model === 'uncounted'
      ? {}
      : { prompt_eval_count: count(prompt) || undefined, eval_count: lines.length || undefined };
  const last = {
    ...frame(model, chat, ''),
    done: true,
    done_reason: reason,
    total_duration: 1_234_567,
    load_duration: 1000,
    ...counters,
  };
  return { lines, last };
}

function toTokens(model: string, prompt: string, body: Body, lastMessage: Body): string[] {
  if (['hang', 'reset', 'truncated', 'errorline', 'oomline'].includes(model)) return ['two', ' tokens'];
  if (model === 'utf8') return [UTF8_TEXT];
  if (model === 'vision') return [`saw ${(body['images'] ?? lastMessage['images'] ?? []).length} pictures`];
  if (lastMessage['role'] === 'tool') return [`${lastMessage['tool_name']}`, ' said ', lastMessage['content']];
  if (body['format']) return [JSON.stringify(body['format'] === 'json' ? { echo: prompt } : toSample(body['format']))];
  const { seed, temperature } = body['options'] ?? {};
  const source = `${prompt}|${seed ?? (temperature === 0 ? 0 : Math.random())}`;
  const length = model === 'slow' ? 1000 : 10;
  const hash = createHash('sha256').update(source).digest();
  return Array.from(
    { length },
    (_, index) => (index ? ' ' : '') + WORDS[(hash[index % hash.length] ?? 0) % WORDS.length],
  );
}

/** The tokens up to the first stop text, which may begin and end inside tokens. */
function stopAt(tokens: string[], stops: string[]): string[] {
  const whole = tokens.join('');
  const ends = stops.map((stop) => whole.indexOf(stop)).filter((index) => index !== -1);
  if (ends.length === 0) return tokens;
  let left = Math.min(...ends);
  return tokens.flatMap((token) => {
    const kept = token.slice(0, Math.max(0, left));
    left -= token.length;
    return kept === '' ? [] : [kept];
  });
}

function toCallLine(model: string, body: Body, index: number, id: string | undefined): Body {
  const name: string = body['tools'][index % body['tools'].length].function.name;
  const call = {
    ...(id ? { id } : {}),
    function: { index: 0, name, arguments: { city: index ? 'Bergen' : 'Oslo', nth: index } },
  };
  return { ...frame(model, true, ''), message: { role: 'assistant', content: '', tool_calls: [call] } };
}

export function frame(model: string, chat: boolean, text: string, thinking?: string): Body {
  const head = { model, created_at: '2026-11-21T02:00:00.1Z' };
  const thought = thinking === undefined ? {} : { thinking };
  if (chat) return { ...head, message: { role: 'assistant', content: text, ...thought }, done: false };
  return { ...head, response: text, ...thought, done: false };
}

function merge(all: Body, line: Body): Body {
  if (!line['message']) return { ...all, response: all['response'] + line['response'] };
  const { content, tool_calls = [] } = all['message'];
  const calls = [...tool_calls, ...(line['message'].tool_calls ?? [])];
  return {
    ...all,
    message: {
      ...all['message'],
      content: content + line['message'].content,
      ...(calls.length ? { tool_calls: calls } : {}),
    },
  };
}

/** `cut` sends each line in pieces of three bytes, so that most characters arrive broken. */
async function write(response: ServerResponse, line: Body, cut: boolean): Promise<void> {
  const bytes = Buffer.from(JSON.stringify(line) + '\n');
  if (!cut) return void response.write(bytes);
  response.socket?.setNoDelay(true);
  for (let start = 0; start < bytes.length; start += 3) {
    response.write(bytes.subarray(start, start + 3));
    await pause(1);
  }
}

function toLogprob(token: string, alternatives: number): Body {
  const one = (text: string) => ({ token: text, logprob: -0.5, bytes: [...Buffer.from(text)] });
  return {
    ...one(token),
    top_logprobs: Array.from({ length: alternatives }, (_, index) => one(token + '!'.repeat(index))),
  };
}

/** The smallest value that fits a JSON schema, for answers that must. */
function toSample(schema: Body): unknown {
  if (schema['enum']) return schema['enum'][0];
  if (schema['type'] === 'object') {
    return Object.fromEntries(
      Object.entries(schema['properties'] ?? {}).map(([key, each]) => [key, toSample(each as Body)]),
    );
  }
  if (schema['type'] === 'array')
    return Array.from({ length: schema['minItems'] ?? 1 }, () => toSample(schema['items'] ?? {}));
  if (schema['type'] === 'integer' || schema['type'] === 'number') return schema['minimum'] ?? 1;
  return schema['type'] === 'boolean' ? true : 'text';
}

export function sendJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' }).end(JSON.stringify(value));
}

export function count(text: string): number {
  return text.split(/\s+/).filter(Boolean).length;
}
