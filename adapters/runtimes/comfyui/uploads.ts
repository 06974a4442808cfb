// The files of a request → files on the server, under names of ours, in the form that nodes read.
import { capabilities } from '../../../src/capabilities/index.ts';
import { fileFields, type FileKind } from '../../../src/capabilities/file.ts';
import type { MediaTools } from '../../../src/media.ts';
import type { Call, InputFile } from '../../../src/runtime.ts';
import type { Client } from './client.ts';
import { cancelled } from './failure.ts';
import type { UploadedFiles, Workflow } from './workflow.ts';

/** Below the server's input folder. */
const FOLDER = 'hono-ai';
const EXTENSIONS: Record<string, string> = {
  'audio/mpeg': 'mp3',
  'audio/wav': 'wav',
  'audio/flac': 'flac',
  'audio/ogg': 'ogg',
  'video/mp4': 'mp4',
  'video/webm': 'webm',
};

/** Latents are an eighth as large as pictures. */
const GRID = 8;

interface Size {
  width: number;
  height: number;
}

/**
 * Pictures upright and without what else is written in them, no larger than the workflow takes on; masks as large as the first
 * picture, white where it may change.
 */
export async function uploadFiles(
  { client, tools }: { client: Client; tools: MediaTools },
  { capability, megapixels, id }: Pick<Workflow, 'capability' | 'megapixels' | 'id'>,
  input: object,
  call: Call,
): Promise<{ files: UploadedFiles; warnings: string[] }> {
  const uploaded: UploadedFiles = {};
  const warnings: string[] = [];
  let size: Size | undefined;
  for (const [field, { kind }] of fileFields(capabilities[capability].input)) {
    const value = (input as Record<string, string | string[] | undefined>)[field];
    for (const [index, reference] of [value ?? []].flat().entries()) {
      const file = await call.file(reference);
      const wanted = field === 'mask' ? size : toLimited(file.media, megapixels);
      const { bytes, extension, ...picture } = await prepare(tools, file, field, kind, wanted);
      if (call.signal.aborted) throw cancelled();
      if (field !== 'mask') size ??= picture.size;
      if (field !== 'mask' && wanted) {
        warnings.push(`${id} takes on ${megapixels} megapixels: ${field} was made ${wanted.width}x${wanted.height}.`);
      }
      const name = `${file.sha256.slice(0, 16)}-${toSafe(call.requestId)}-${field}${index}.${extension}`;
      (uploaded[field] ??= []).push(await client.upload({ name, folder: FOLDER, bytes }, call.signal));
    }
  }
  return { files: uploaded, warnings };
}

/** Undefined where it is small enough. */
function toLimited({ width = 0, height = 0 }: Partial<Size>, megapixels: number | undefined): Size | undefined {
  if (megapixels === undefined || width * height <= megapixels * 1e6) return undefined;
  const scale = Math.sqrt((megapixels * 1e6) / (width * height));
  const toSide = (side: number) => Math.max(GRID, Math.floor((side * scale) / GRID) * GRID);
  return { width: toSide(width), height: toSide(height) };
}

/** Text of others → what may be in the name of a file on any system. */
export function toSafe(text: string): string {
  return text.replace(/[^\w-]+/g, '').slice(0, 40) || 'request';
}

async function prepare(tools: MediaTools, file: InputFile, field: string, kind: FileKind, size: Size | undefined) {
  const bytes = await file.bytes();
  if (kind !== 'image')
    return { bytes, extension: EXTENSIONS[file.media_type] ?? file.media_type.split('/')[1] ?? 'bin' };
  if (field !== 'mask') {
    const { width, height, bytes: png } = await tools.toPng(bytes, size);
    return { bytes: png, extension: 'png', size: { width, height } };
  }
  let picture = await tools.toMask(bytes);
  const differs = size && (size.width !== picture.width || size.height !== picture.height);
  if (differs) picture = await tools.toPng(picture.bytes, size);
  return { bytes: picture.bytes, extension: 'png', size: { width: picture.width, height: picture.height } };
}
