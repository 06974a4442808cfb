// The file routes of a fake ComfyUI: uploads that are renamed rather than overwritten, and /view with its refusals.
import { extname, posix } from 'node:path';
import sharp from 'sharp';
import { annotated, isInside } from './disk.ts';
import type { Disk, Folder } from './disk.ts';
import { empty, fileAnswer, json, readForm, trouble } from '../fake-http.ts';
import type { Answer, Asked } from '../fake-http.ts';
import type { Uploaded } from './types.ts';

/** As Python's mimetypes knows them, with the list of the system. */
const TYPES: Record<string, string> = {
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.webp': 'image/webp',
  '.gif': 'image/gif',
  '.mp4': 'video/mp4',
  '.webm': 'video/webm',
  '.mp3': 'audio/mpeg',
  '.wav': 'audio/x-wav',
  '.flac': 'audio/flac',
  '.opus': 'audio/ogg',
  '.ogg': 'audio/ogg',
  '.json': 'application/json',
};
/** What a browser would run is only ever downloaded. */
const ACTIVE = new Set(['.svg', '.html', '.htm', '.js', '.css', '.xml', '.xhtml']);

export async function upload(
  asked: Asked,
  kind: Uploaded['kind'],
  { disk, uploads }: { disk: Disk; uploads: Uploaded[] },
): Promise<Answer> {
  const form = await readForm(asked).catch(() => undefined);
  const file = form?.get('image');
  if (!form || !(file instanceof File)) return form ? empty(400) : trouble;
  const type = String(form.get('type') ?? 'input');
  if (!isFolder(type)) return trouble;
  const subfolder = String(form.get('subfolder') ?? '');
  const at = (name: string) => posix.normalize(posix.join(subfolder, name));
  if (!file.name || !isInside(at(file.name))) return empty(400);
  let bytes = new Uint8Array(await file.arrayBuffer());
  if (kind === 'mask') {
    const original = JSON.parse(String(form.get('original_ref'))) as {
      filename: string;
      subfolder?: string;
      type?: string;
    };
    const target = disk.get(folderNamed(original.type), posix.join(original.subfolder ?? '', original.filename));
    if (!target) return trouble;
    bytes = await withAlphaOf(target.bytes, bytes);
  }
  const { name, same } = ['true', '1'].includes(String(form.get('overwrite')))
    ? { name: file.name, same: false }
    : freeName(file.name, (name) => disk.get(type, at(name))?.bytes, bytes);
  if (!same) disk.put(type, at(name), bytes);
  uploads.push({ kind, name, subfolder, type, sentName: file.name, bytes });
  return json({ name, subfolder, type });
}

export async function view(asked: Asked, disk: Disk): Promise<Answer> {
  const given = asked.query.get('filename');
  if (given === null) return empty(404);
  const { path: filename, folder } = annotated(given);
  if (filename === '' || filename.startsWith('/') || filename.includes('..')) return empty(400);
  const type = folder ?? asked.query.get('type') ?? 'output';
  if (!isFolder(type)) return empty(400);
  const subfolder = asked.query.get('subfolder') ?? '';
  if (!isInside(posix.join('.', subfolder)) || subfolder.startsWith('/')) return empty(403);
  const name = posix.basename(filename);
  const file = disk.get(type, posix.normalize(posix.join(subfolder, name)));
  if (!file) return empty(404);
  const disposition = `filename="${name.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
  const preview = asked.query.get('preview');
  if (preview !== null) {
    const format = preview.startsWith('jpeg') ? 'jpeg' : 'webp';
    const body = await sharp(file.bytes).toFormat(format).toBuffer();
    return { status: 200, headers: { 'content-type': `image/${format}`, 'content-disposition': disposition }, body };
  }
  const extension = extname(name).toLowerCase();
  const headers: Record<string, string> = {
    'content-type': TYPES[extension] ?? 'application/octet-stream',
    'content-disposition': ACTIVE.has(extension) ? `attachment; ${disposition}` : disposition,
    'x-content-type-options': 'nosniff',
  };
  return fileAnswer(asked, file, headers);
}

function freeName(
  name: string,
  existing: (name: string) => Uint8Array | undefined,
  bytes: Uint8Array,
): { name: string; same: boolean } {
  const extension = extname(name);
  const stem = name.slice(0, name.length - extension.length);
  let candidate = name;
  for (let index = 1; ; index++) {
    const there = existing(candidate);
    if (!there) return { name: candidate, same: false };
    if (Buffer.compare(there, bytes) === 0) return { name: candidate, same: true };
    candidate = `${stem} (${index})${extension}`;
  }
}

async function withAlphaOf(picture: Uint8Array, mask: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  const alpha = await sharp(mask).ensureAlpha().extractChannel('alpha').toBuffer();
  return new Uint8Array(await sharp(picture).removeAlpha().joinChannel(alpha).png().toBuffer());
}

function isFolder(name: string): name is Folder {
  return name === 'input' || name === 'output' || name === 'temp';
}

function folderNamed(name: string | undefined): Folder {
  return name !== undefined && isFolder(name) ? name : 'output';
}
