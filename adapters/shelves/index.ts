// Configuration → who gets models for folders that no runtime here reads. A new one is a list of models and one line here.
import type { Puller } from '../../src/puller.ts';
import type { Downloads } from '../downloads/index.ts';
import { kokoro } from './kokoro.ts';
import { createShelf, type Shelf } from './shelf.ts';
import { whisper } from './whisper.ts';

const shelves: Shelf[] = [whisper, kokoro];

/** `dirs`: name → folder on this machine. */
export function openShelves(options: { dirs: Record<string, string>; downloads: Downloads; hubUrl: string }): Puller[] {
  const { dirs, downloads, hubUrl } = options;
  return shelves.map((shelf) =>
    createShelf(shelf, {
      dir: Object.hasOwn(dirs, shelf.runtime) ? dirs[shelf.runtime] : undefined,
      downloads,
      hubUrl,
    }),
  );
}
