// The folders of a fake ComfyUI: what was uploaded and what was made, with the names that the real one gives.
import { createHash } from 'node:crypto';
import { posix } from 'node:path';

export interface StoredFile {
  bytes: Uint8Array;
  etag: string;
  modified: Date;
}

export type Folder = 'input' | 'output' | 'temp';

export interface Disk {
  get(folder: Folder, path: string): StoredFile | undefined;
  put(folder: Folder, path: string, bytes: Uint8Array): void;
  /** Paths in a folder, sub-folders included. */
  list(folder: Folder): string[];
  /** A file as nodes name it: `a.png`, `sub/a.png`, `a.png [output]`. */
  named(name: string): StoredFile | undefined;
  /** The next free name of a saver: `pic_00001_.png` in `rec` for the prefix `rec/pic`. */
  nextName(folder: Folder, prefix: string, size: { width: number; height: number }): SaveName;
  clearTemp(): void;
}

export interface SaveName {
  subfolder: string;
  stem: string;
  counter: number;
}

export function createDisk(): Disk {
  const folders: Record<Folder, Map<string, StoredFile>> = { input: new Map(), output: new Map(), temp: new Map() };

  return {
    get: (folder, path) => folders[folder].get(path),
    put(folder, path, bytes) {
      const etag = `"${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}-${bytes.length.toString(16)}"`;
      folders[folder].set(path, { bytes, etag, modified: new Date() });
    },
    list: (folder) => [...folders[folder].keys()],
    named(name) {
      const { folder, path } = annotated(name);
      return isInside(path) ? folders[folder ?? 'input'].get(posix.normalize(path)) : undefined;
    },
    nextName(folder, prefix, { width, height }) {
      const path = posix.normalize(prefix.replaceAll('%width%', `${width}`).replaceAll('%height%', `${height}`));
      if (!isInside(path)) {
        const full = posix.join('/ComfyUI', folder, posix.dirname(path));
        const lines = [
          `full_output_folder: ${full}`,
          `        output_dir: /ComfyUI/${folder}`,
          '        commonpath: /ComfyUI',
        ];
        throw new Error(`**** ERROR: Saving image outside the output folder is not allowed.\n ${lines.join('\n ')}`);
      }
      const subfolder = posix.dirname(path) === '.' ? '' : posix.dirname(path);
      const stem = posix.basename(path);
      let counter = 1;
      for (const other of folders[folder].keys()) {
        const base = posix.basename(other);
        if (posix.join('.', posix.dirname(other)) !== posix.join('.', subfolder) || !base.startsWith(`${stem}_`))
          continue;
        const digits = Number.parseInt(base.slice(stem.length + 1), 10);
        if (digits >= counter) counter = digits + 1;
      }
      return { subfolder, stem, counter };
    },
    clearTemp: () => folders.temp.clear(),
  };
}

/** `x.png [output]` → the folder that the name carries, and the name without it. */
export function annotated(name: string): { path: string; folder: Folder | undefined } {
  const match = /^(.*?) ?\[(output|input|temp)\]$/.exec(name);
  return match ? { path: match[1]!, folder: match[2] as Folder } : { path: name, folder: undefined };
}

/** A relative path that does not climb out of its folder. */
export function isInside(path: string): boolean {
  const normal = posix.normalize(path);
  return !normal.startsWith('/') && normal !== '..' && !normal.startsWith('../');
}
