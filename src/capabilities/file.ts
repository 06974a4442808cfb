// Files in requests and answers: how a caller names one it gives, and what is told of one that was made.
import { z } from 'zod';

export const fileKinds = ['image', 'audio', 'video'] as const;
export type FileKind = (typeof fileKinds)[number];

/** Base64 of the largest body that is taken, and some. */
const MAX_INLINE = 128_000_000;

/** What is asked of a file beside its kind. */
export interface FileRules {
  /** Pixels that a picture must have at least on either side. */
  minSide?: number;
  /** The field whose first picture it must be as large as. */
  sizeOf?: string;
}

/**
 * A file that a caller gives: the id or link of an artifact of theirs, a data: URL, or base64. Before a handler sees it, it has
 * become the id of an artifact; over HTTP a form may bring the bytes themselves, and the command line takes the name of a file.
 */
export function fileField(kind: FileKind, description: string, rules: FileRules = {}) {
  return z
    .string()
    .min(1)
    .max(MAX_INLINE)
    .describe(`${description} An artifact's id, a data: URL or base64; or a file in a form.`)
    .meta({ file: kind, ...rules });
}

/** What is known of a picture, a film or a sound from its own bytes. */
export const measures = z.object({
  width: z.int().optional(),
  height: z.int().optional(),
  /** Pictures in it: 1 for a still one. */
  frames: z.int().optional(),
  duration_s: z.number().optional(),
  fps: z.number().optional(),
});
export type Measures = z.output<typeof measures>;

export const artifactView = z.object({
  id: z.string(),
  name: z.string(),
  media_type: z.string(),
  size: z.int().describe('Bytes.'),
  sha256: z.string(),
  media: measures.optional().describe('Of pictures, films and sounds, as far as their bytes tell.'),
  url: z.string().describe('A signed link; it needs no key and ends at expires_at.'),
  expires_at: z.string(),
  b64_json: z.string().optional().describe('Its bytes, where response_format asks for them.'),
});
export type ArtifactView = z.output<typeof artifactView>;

export interface FileShape extends FileRules {
  kind: FileKind;
  /** It takes several. */
  many: boolean;
}

/** Which fields of a capability are files, by name. */
export function fileFields(input: z.ZodObject): Map<string, FileShape> {
  const found = new Map<string, FileShape>();
  for (const [name, field] of Object.entries(input.shape)) {
    const known = findKind(field as z.ZodType);
    if (known) found.set(name, known);
  }
  return found;
}

function findKind(field: z.ZodType): FileShape | undefined {
  const { file: kind, minSide, sizeOf } = (field.meta() ?? {}) as FileRules & { file?: FileKind };
  if (kind) {
    return {
      kind,
      many: false,
      ...(minSide === undefined ? {} : { minSide }),
      ...(sizeOf === undefined ? {} : { sizeOf }),
    };
  }
  if (field instanceof z.ZodOptional || field instanceof z.ZodDefault) return findKind(field.unwrap() as z.ZodType);
  if (field instanceof z.ZodArray) {
    const inner = findKind(field.element as z.ZodType);
    return inner && { ...inner, many: true };
  }
  return undefined;
}
