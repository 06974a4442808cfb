// A schema of fields → flags, and their values → fields.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { Flag } from './command.ts';

/** The letters that people know from other tools. */
const LETTERS: Record<string, string> = { model: 'm', system: 's', instruction: 'i' };

/** Fields whose own name is that of a flag that every command has. */
const OTHER_NAMES: Record<string, string> = { key: 'musical-key' };

/** JSON Schema, as far as fields of a capability use it. */
interface Schema {
  type?: string | string[];
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  /** What kind of file it names. */
  file?: string;
}

/** How the schema of a file ends its description; a command line has other ways to name one. */
const ON_THE_WIRE = / An artifact's id, a data: URL or base64; or a file in a form\.$/;

/** One flag for each field, by its name on the command line; that of the argument is never required. */
export function toFlags(input: z.ZodObject, argument: string, skip: readonly string[]): Record<string, Flag> {
  const { properties = {}, required = [] } = z.toJSONSchema(input, { io: 'input', unrepresentable: 'any' });
  const flags: Record<string, Flag> = {};
  for (const [field, schema] of Object.entries(properties)) {
    if (skip.includes(field)) continue;
    const { items, description = items?.description, default: fallback } = schema as Schema;
    const told = [
      description?.replace(ON_THE_WIRE, '') ?? '',
      required.includes(field) && field !== argument ? '(required)' : '',
      fallback === undefined || fallback === false ? '' : `(default: ${String(fallback)})`,
    ];
    const letter = LETTERS[field];
    flags[toFlagName(field)] = {
      ...toKind(schema as Schema),
      description: told.filter(Boolean).join(' '),
      ...(letter ? { alias: letter } : {}),
      ...(field === 'model' ? { completes: 'model' as const, valueHint: 'MODEL' } : {}),
    };
  }
  return flags;
}

/** The given flags as fields; lists of lists, which repeated JSON flags are, become one list. */
export function toFields(input: z.ZodObject, values: Record<string, unknown>): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const field of Object.keys(input.shape)) {
    const value = values[toFlagName(field)];
    if (value !== undefined) fields[field] = Array.isArray(value) ? value.flat() : value;
  }
  return fields;
}

export function toFlagName(field: string): string {
  const name = OTHER_NAMES[field] ?? field;
  return name.replaceAll('_', '-').replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** JSON text, or the name of a file of it after an @. */
export function readJson(text: string): unknown {
  const source = text.startsWith('@') ? readText(text.slice(1)) : text;
  try {
    return JSON.parse(source);
  } catch {
    throw new Error(text.startsWith('@') ? `a file of valid JSON: ${text.slice(1)} is not` : 'valid JSON, or @FILE');
  }
}

export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    throw new Error(`a file that can be read: ${file} cannot`);
  }
}

function toKind(schema: Schema): Flag {
  const file: Flag = { type: 'string', valueHint: 'FILE|-|ID', completes: 'file' };
  if (schema.file !== undefined) return file;
  if (schema.items?.file !== undefined) return { ...file, multiple: true };
  const choices = flatten(schema);
  const types = new Set(choices.map(typeOf));
  if (choices.length === 1) {
    const [only] = choices as [Schema];
    if (types.has('boolean')) return { type: 'boolean' };
    if (only.enum) return { type: 'enum', options: only.enum.map(String), valueHint: 'WORD' };
    if (types.has('integer')) return { type: 'string', valueHint: 'N', read: readInteger };
    if (types.has('number')) return { type: 'string', valueHint: 'N', read: readNumber };
    if (types.has('string')) return { type: 'string', valueHint: 'TEXT' };
  }
  const list = choices.find((choice) => typeOf(choice) === 'array');
  if (list) return { ...toItem(flatten(list.items ?? {})), multiple: true };
  return toItem(choices);
}

/** A single value that may be a word, an object, or either. */
function toItem(choices: Schema[]): Flag {
  const text = choices.filter((choice) => typeOf(choice) === 'string');
  if (text.length === choices.length && choices.length > 0) {
    const options = text.flatMap((choice) => choice.enum ?? []).map(String);
    return options.length > 0 ? { type: 'enum', options, valueHint: 'WORD' } : { type: 'string', valueHint: 'TEXT' };
  }
  if (text.length === 0) return { type: 'string', valueHint: 'JSON|@FILE', read: readJson, completes: 'file' };
  const words = text.flatMap((choice) => choice.enum ?? []).map(String);
  return {
    type: 'string',
    valueHint: words.length > 0 ? `${words.join('|')}|JSON|@FILE` : 'TEXT|JSON|@FILE',
    read: (given) => (/^\s*[{[]|^@/.test(given) ? readJson(given) : given),
    ...(words.length > 0 ? { options: words } : {}),
  };
}

/** The alternatives of a schema, null left out: on a command line it is the flag that is not given. */
function flatten(schema: Schema): Schema[] {
  const choices = schema.anyOf ?? schema.oneOf;
  return choices ? choices.flatMap(flatten).filter((choice) => typeOf(choice) !== 'null') : [schema];
}

function typeOf({ type, const: only }: Schema): string {
  const named = Array.isArray(type) ? type.find((each) => each !== 'null') : type;
  return named ?? (only === undefined ? 'any' : typeof only);
}

function readInteger(text: string): number {
  if (!/^[+-]?\d+$/.test(text.trim())) throw new Error('a whole number');
  return Number(text);
}

function readNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new Error('a number');
  return value;
}
