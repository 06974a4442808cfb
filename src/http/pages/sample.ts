// An operation → a request that can be pasted into a shell, and the look of its answer: the least that the schemas allow.
import type { Api, Content, Operation, Schema } from './api.ts';
import { contained, flatten, soleValue, typesOf } from './schema.ts';

export function toCurl(api: Api, operation: Operation, baseUrl: string): string {
  const { method, parameters, keyed, body } = operation;
  const needed = parameters.filter((parameter) => parameter.required);
  const query = needed
    .filter((parameter) => parameter.in === 'query')
    .map(({ name, schema }) => `${encodeURIComponent(name)}=${encodeURIComponent(toText(ask(api, schema, name)))}`);
  const url = quote(`${baseUrl}${operation.path}${query.length > 0 ? `?${query.join('&')}` : ''}`);
  // curl sends GET by itself, and POST where there is a body.
  const verb = method === 'GET' || (method === 'POST' && body) ? '' : method === 'HEAD' ? '-I ' : `-X ${method} `;
  const lines = [`curl ${verb}${url}`];
  if (keyed) lines.push('-H "Authorization: Bearer $HONO_AI_API_KEY"');
  for (const { name, schema } of needed.filter((parameter) => parameter.in === 'header')) {
    lines.push(`-H ${quote(`${name}: ${toText(ask(api, schema, name))}`)}`);
  }
  if (body) lines.push(...toBody(api, body.contents));
  return lines.join(' \\\n  ');
}

/** What a success looks like in JSON; undefined where it is not JSON. */
export function toAnswer(api: Api, operation: Operation): string | undefined {
  const success = operation.answers.find(({ status }) => status.startsWith('2'));
  const content = success?.contents.find(({ type }) => type.includes('json'));
  if (!content) return undefined;
  return JSON.stringify(content.example ?? toSample(api, content.schema, ANSWERED), null, 2);
}

/** Words by the name of the field they stand in. */
type Words = Record<string, string>;

/** Words that make a request do something worth seeing. */
const ASKED: Words = {
  prompt: 'Write a haiku about a small GPU.',
  content: 'Say hello in five languages.',
  input: 'The quick brown fox.',
  text: 'Teh quick brown fox.',
  instruction: 'Correct the spelling.',
  topic: 'a lighthouse that learns to sing',
  role: 'user',
  model: 'default',
  url: 'data:image/png;base64,…',
};

const ANSWERED: Words = {
  model: 'llama3.2:3b',
  runtime: 'ollama',
  role: 'assistant',
  text: 'Twelve gigabytes hum…',
  content: 'Hello! Bonjour! Hola!…',
};

const ask = (api: Api, schema: Schema, name: string) => toSample(api, schema, ASKED, name);

/** An example value: the schema's own, else the least that fits. */
function toSample(api: Api, schema: Schema, words: Words, name = '', depth = 0): unknown {
  const shape = flatten(api, schema);
  const fitting = shape.enum?.find((value) => value === words[name]);
  const given = shape.example ?? shape.examples?.[0] ?? soleValue(shape) ?? shape.default ?? fitting ?? shape.enum?.[0];
  if (given !== undefined) return given;
  if (depth > 6) return null;
  const [variant] = shape.oneOf ?? shape.anyOf ?? [];
  if (variant) return toSample(api, variant, words, name, depth + 1);
  switch (typesOf(shape)[0]) {
    case 'object':
      return toObject(api, shape, words, depth);
    case 'array':
      return toList(api, shape, words, name, depth);
    case 'integer':
      return shape.minimum ?? 1;
    case 'number':
      return shape.minimum ?? 0.5;
    case 'boolean':
      return true;
    default:
      return words[name] ?? '…';
  }
}

function toObject(api: Api, schema: Schema, words: Words, depth: number): Record<string, unknown> {
  const object: Record<string, unknown> = {};
  const required = new Set(schema.required);
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    // A message without content is allowed and shows nothing. What has a default need not be sent.
    const shown = required.has(name) || name === 'content';
    const optional = words === ASKED && flatten(api, field).default !== undefined;
    if (shown && !optional) object[name] = toSample(api, field, words, name, depth + 1);
  }
  return object;
}

function toList(api: Api, schema: Schema, words: Words, name: string, depth: number): unknown[] {
  const item = toSample(api, contained(schema) ?? {}, words, name, depth + 1);
  // An answer's list of nothing known, such as its warnings, is best shown empty.
  if (item === '…' && words === ANSWERED) return [];
  return Array<unknown>(Math.min(Math.max(schema.minItems ?? 1, 1), 3)).fill(item);
}

function toBody(api: Api, contents: Content[]): string[] {
  const content = contents.find(({ type }) => type.includes('json')) ?? contents[0];
  if (!content) return [];
  const { type, schema } = content;
  if (type === 'multipart/form-data') return toForm(api, schema);
  const header = `-H ${quote(`Content-Type: ${type}`)}`;
  if (!type.includes('json')) return [header, '--data-binary @file'];
  const value = content.example ?? ask(api, schema, '');
  const line = JSON.stringify(value);
  return [header, `-d ${quote(line.length <= 56 ? line : JSON.stringify(value, null, 2))}`];
}

function toForm(api: Api, schema: Schema): string[] {
  const { properties = {}, required = [] } = flatten(api, schema);
  return Object.entries(properties)
    .filter(([name]) => required.includes(name))
    .map(([name, field]) => {
      const isFile = field.format === 'binary' || 'contentMediaType' in field;
      return `-F ${quote(`${name}=${isFile ? '@file' : toText(ask(api, field, name))}`)}`;
    });
}

function toText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Single quotes keep everything from the shell but a single quote. */
function quote(value: string): string {
  return `'${value.replaceAll("'", `'\\''`)}'`;
}
