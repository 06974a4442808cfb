// Files of this machine → the gateway, for every command that brings some: sent while they are read.
import { openAsBlob } from 'node:fs';
import { access, constants, readFile, stat } from 'node:fs/promises';
import { CommandFailure, exitCodes } from './exit.ts';
import { askJson, type Target } from './target.ts';

export interface Upload {
  /** What it is called there. */
  name: string;
  body: Blob;
  /** Its media type, where its bytes do not tell. */
  type?: string;
  purpose?: string;
}

/** As far as a command needs it. */
export interface Artifact {
  id: string;
  name: string;
  media_type: string;
  size: number;
  sha256: string;
  job?: string | null;
  created_at?: string;
}

/** Throws a CommandFailure, as for wrong usage, where there is nothing to be read. */
export async function openFile(file: string): Promise<Blob> {
  try {
    await access(file, constants.R_OK);
    const about = await stat(file);
    if (about.isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
    // Of a pipe nobody knows the size: `<(…)` of a shell is one.
    return about.isFile() ? await openAsBlob(file) : new Blob([new Uint8Array(await readFile(file))]);
  } catch (error) {
    const { code } = error as { code?: string };
    throw new CommandFailure(exitCodes.usage, `${file} cannot be read: ${code}.`, { code: 'cannot_read' });
  }
}

/** Throws a CommandFailure. */
export function uploadFile(target: Target, { name, body, type, purpose }: Upload): Promise<Artifact> {
  const query = new URLSearchParams({ name, ...(purpose === undefined ? {} : { purpose }) });
  return askJson<Artifact>(target, {
    method: 'POST',
    path: `/artifacts?${query}`,
    body,
    headers: { 'content-type': type ?? 'application/octet-stream' },
  });
}
