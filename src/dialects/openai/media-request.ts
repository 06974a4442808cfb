// Requests about pictures, films and music as OpenAI's clients send them: nulls, files by reference, names that only OpenAI has.
import type { z } from 'zod';
import { fileFields } from '../../capabilities/file.ts';
import { capabilities, type CapabilityId } from '../../capabilities/index.ts';
import { GatewayError } from '../../error.ts';
import { readBytes, toInput, toJson } from '../../http/body.ts';
import type { AppContext } from '../../http/context.ts';
import { readRequest, settleInput } from '../../http/inputs.ts';

type Json = Record<string, unknown>;

/** Names that programs have built in, of models that nobody has at home. */
const THEIRS = /^(gpt-image|chatgpt-image|dall-e|sora)/;

/**
 * The request, checked by the schema, its files as ids of artifacts of the caller. Throws what `readRequest` throws. In JSON a
 * file may also be `{"image_url": …}`, `{"url": …}` or `{"file_id": …}`.
 */
export async function readMedia<T extends z.ZodObject>(c: AppContext, schema: T): Promise<z.output<T>> {
  if (isForm(c)) return readRequest(c, schema);
  const given = toGiven(toJson(await readBytes(c, c.var.app.config.max_body)), schema);
  return settleInput(c, schema, toInput(schema, given));
}

export function isForm(c: AppContext): boolean {
  return /^multipart\//i.test(c.req.header('content-type') ?? '');
}

/**
 * What of the request the capability knows; the names are the same. Sizes come from OpenAI's list, which is not that of models
 * at home, so the nearest is fine. Throws invalid_request.
 */
export function toCapabilityInput(id: CapabilityId, asked: Json): Json {
  const schema: z.ZodObject = capabilities[id].input;
  const given: Json = { fit: true, ...asked };
  const known = Object.keys(schema.shape).filter((name) => !isAbsent(given[name]));
  return toInput(schema, Object.fromEntries(known.map((name) => [name, given[name]])));
}

/** The model to ask for. One of OpenAI's own names that nothing here has stands for the default, which is said in a warning. */
export async function toModel(
  c: AppContext,
  name: string | undefined,
): Promise<{ model?: string; warnings: string[] }> {
  if (!name) return { warnings: [] };
  const { gateway, routing } = c.var.app;
  if (!THEIRS.test(name) || routing.aliases().has(name)) return { model: name, warnings: [] };
  try {
    await gateway.catalog.find(name);
    return { model: name, warnings: [] };
  } catch (error) {
    if (!(error instanceof GatewayError && error.code === 'model_not_found')) throw error;
    return { warnings: [`There is no model “${name}” here: the default answered.`] };
  }
}

/** A link of this gateway as an address that works elsewhere. */
export function toAbsolute(c: AppContext, path: string): string {
  return new URL(path, c.req.url).href;
}

/** What a reference to a file stands for: an artifact's id, a data: URL, or base64. `{"image_url": {"url": …}}` is the deepest. */
export function toReference(value: unknown, depth = 2): unknown {
  if (typeof value === 'string') return value.replace(/^file-(?=[0-9a-f]{32}$)/, 'art_');
  if (typeof value !== 'object' || value === null || depth === 0) return value;
  const { image_url, url, file_id, b64_json } = value as Json;
  const found = image_url ?? url ?? file_id ?? b64_json;
  return found === undefined ? value : toReference(found, depth - 1);
}

/** Nulls and empty texts are absences, and one file stands for a list of one. */
function toGiven(body: unknown, schema: z.ZodObject): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body;
  const given: Json = Object.fromEntries(Object.entries(body).filter(([, value]) => !isAbsent(value)));
  for (const [name, { many }] of fileFields(schema)) {
    // `images` is how the newest clients name what forms call `image`.
    const value = given[name] ?? (name === 'image' ? given['images'] : undefined);
    if (value === undefined) continue;
    if (many) given[name] = [value].flat().map((one) => toReference(one));
    else given[name] = toReference(Array.isArray(value) && value.length === 1 ? value[0] : value);
  }
  return given;
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}
