// Requests that may bring files: as JSON with the files in it, or as a form; either way checked, and every file an artifact.
import { z } from 'zod';
import type { ArtifactRecord } from '../artifacts.ts';
import { fileFields } from '../capabilities/file.ts';
import { GatewayError } from '../error.ts';
import { readBytes, toInput, toJson } from './body.ts';
import { clientSignal, type AppContext } from './context.ts';
import { readForm, type Form } from './multipart.ts';

/** Bytes of a field of a form: the longest prompt, whatever it is written in. */
const MAX_FIELD = 256 * 1024;
/** Files that one field may bring at once, as far as the size of a form is concerned. */
const MANY = 16;

/**
 * The request, checked by the schema, its files (see `fileField`) as ids of artifacts of the caller. Takes JSON, and forms
 * where the schema has files. Throws invalid_json, invalid_request, body_too_large, not_found, expired, storage errors; what
 * was kept for a request that comes to nothing is forgotten by `forgetBrought`.
 */
export async function readRequest<T extends z.ZodObject>(c: AppContext, schema: T): Promise<z.output<T>> {
  if (isForm(c) && fileFields(schema).size > 0) {
    return settleInput(c, schema, toInput(schema, toFields(await readFiles(c, schema), schema)));
  }
  return settleInput(c, schema, toChecked(schema, toJson(await readBytes(c, c.var.app.config.max_body))));
}

/** What came as JSON, checked by the schema; one file is fine where several could be. Throws invalid_request. */
export function toChecked<T extends z.ZodObject>(schema: T, body: unknown): z.output<T> {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) return toInput(schema, body);
  const given: Record<string, unknown> = { ...body };
  for (const [name, { many }] of fileFields(schema)) {
    if (many && typeof given[name] === 'string') given[name] = [given[name]];
  }
  return toInput(schema, given);
}

/** The files of a checked input as ids; what is newly kept for them belongs to this request until somebody takes it over. */
export async function settleInput<T extends Record<string, unknown>>(
  c: AppContext,
  schema: z.ZodObject,
  given: T,
): Promise<T> {
  const { input, brought } = await c.var.app.inputs.settle(c.var.caller, schema, given);
  bring(c, ...brought);
  return input;
}

/** The files that this request brought; from now on they are the caller's business, and nobody forgets them for it. */
export function takeBrought(c: AppContext): string[] {
  const brought = c.var.brought ?? [];
  c.set('brought', []);
  return brought;
}

/** Forgets what the request brought, unless somebody took it over. For the end of every request. */
export async function forgetBrought(c: AppContext): Promise<void> {
  const brought = takeBrought(c);
  if (brought.length > 0) await c.var.app.inputs.forget(c.var.caller, brought);
}

/** What tells one request from another: the bytes of its body, or the fields of a form and the hashes of its files. */
export async function readPrint(c: AppContext, schema: z.ZodObject): Promise<Uint8Array<ArrayBuffer>> {
  if (!isForm(c) || fileFields(schema).size === 0) return readBytes(c, c.var.app.config.max_body);
  const { fields, files } = await readFiles(c, schema);
  const told = [[...fields].toSorted(byName), files.map(({ name, value }) => [name, value.value.hash])];
  return new TextEncoder().encode(JSON.stringify(told));
}

function isForm(c: AppContext): boolean {
  return /^multipart\//i.test(c.req.header('content-type') ?? '');
}

function bring(c: AppContext, ...ids: string[]): void {
  c.set('brought', [...(c.var.brought ?? []), ...ids]);
}

/** The form, its files kept; read once, however often it is asked for. */
async function readFiles(c: AppContext, schema: z.ZodObject): Promise<Form<ArtifactRecord>> {
  if (c.var.form) return c.var.form;
  const { inputs } = c.var.app;
  const known = fileFields(schema);
  const limits = [...known.values()].map(({ kind, many }) => ({ one: inputs.limitOf(kind), count: many ? MANY : 1 }));
  const form = await readForm<ArtifactRecord>(c, {
    fileLimit: Math.max(...limits.map(({ one }) => one)),
    limits: {
      field: MAX_FIELD,
      total: limits.reduce((sum, { one, count }) => sum + one * count, c.var.app.config.max_body),
    },
    repeatable: [...toShapes(schema)].filter(([, { type }]) => type === 'array').map(([name]) => name),
    async onFile({ name, filename, bytes }) {
      const param = toFieldName(name);
      const field = known.get(param);
      if (!field) {
        const names = [...known.keys()].join(', ');
        throw new GatewayError('invalid_request', `${param}: is no file here; ${names} can be.`, { param });
      }
      const about = { owner: c.var.caller, param, kind: field.kind, name: filename, signal: clientSignal(c) };
      const record = await inputs.save(bytes, about);
      bring(c, record.id);
      return record;
    },
  });
  c.set('form', form);
  return form;
}

/** A form's fields, all of them text, as the schema has them. */
function toFields({ fields, files }: Form<ArtifactRecord>, schema: z.ZodObject): Record<string, unknown> {
  const shapes = toShapes(schema);
  const given = new Map<string, unknown>();
  const add = (name: string, value: unknown) => {
    if (shapes.get(name)?.type === 'array') {
      given.set(name, [...((given.get(name) as unknown[] | undefined) ?? []), ...[value].flat()]);
    } else if (given.has(name)) {
      throw new GatewayError('invalid_request', `${name}: is there twice.`, { param: name });
    } else given.set(name, value);
  };
  for (const [key, values] of fields) {
    const name = toFieldName(key);
    const shape = shapes.get(name);
    const field = Object.hasOwn(schema.shape, name) ? (schema.shape[name] as z.ZodType) : undefined;
    // An empty field is what a form sends for what nobody filled in, unless it means something; what is needed says so itself.
    const isKept = field?.safeParse('').success || field?.safeParse(undefined).success === false;
    for (const value of values) if (value !== '' || isKept) add(name, toValue(value, shape));
  }
  for (const { name, value } of files) add(toFieldName(name), value.id);
  return Object.fromEntries(given);
}

interface Shape {
  type?: string;
  items?: Shape;
  anyOf?: Shape[];
}

const shapesOf = new WeakMap<z.ZodObject, Map<string, Shape>>();

function toShapes(schema: z.ZodObject): Map<string, Shape> {
  const known = shapesOf.get(schema);
  if (known) return known;
  const { properties = {} } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  const shapes = new Map(Object.entries(properties) as [string, Shape][]);
  shapesOf.set(schema, shapes);
  return shapes;
}

/** Text that is not what the schema wants stays text: the schema says so in better words. */
function toValue(text: string, shape: Shape | undefined): unknown {
  const { type, items, anyOf } = shape ?? {};
  if (type === 'string') return text;
  if (type === 'number' || type === 'integer')
    return text.trim() === '' || Number.isNaN(Number(text)) ? text : Number(text);
  if (type === 'boolean')
    return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
  if (type === 'array') return /^\s*\[/.test(text) ? parse(text) : toValue(text, items);
  const branch = anyOf?.map((one) => toValue(text, one)).find((value) => value !== text);
  if (branch !== undefined) return branch;
  return /^\s*[{[]/.test(text) ? parse(text) : text;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** `image[]` is how some write that there may be several. */
function toFieldName(name: string): string {
  return name.replace(/\[\]$/, '');
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1;
}
