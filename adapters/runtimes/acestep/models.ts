// The models of ACE-Step 1.5 and where the hub has them; its server looks for them in its folder of checkpoints.
import type { Shelf, ShelfModel, ShelfPart } from '../../shelves/shelf.ts';

const MAIN = 'ACE-Step/Ace-Step1.5';
/** All that is no description or picture for people. */
const USED = /^(?!.*\.(md|png|jpe?g|gif|mp3|wav|mp4)$)(?!(.*\/)?\.git)/i;
const mainPart = (folder: string): ShelfPart => ({
  repo: MAIN,
  files: new RegExp(`^${folder.replaceAll('.', '\\.')}/(?!.*\\.md$)`),
});
/** What every model of music shares: it turns words into meaning, and what was made into sound. */
const SHARED = ['vae', 'Qwen3-Embedding-0.6B'].map(mainPart);

const MAKERS: [name: string, title: string][] = [
  ['acestep-v15-sft', 'ACE-Step 1.5 SFT: music, finer and slower than turbo'],
  ['acestep-v15-base', 'ACE-Step 1.5 base: music, also from other music'],
  ['acestep-v15-turbo-shift1', 'ACE-Step 1.5 turbo, shift 1: music'],
  ['acestep-v15-turbo-shift3', 'ACE-Step 1.5 turbo, shift 3: music'],
  ['acestep-v15-turbo-continuous', 'ACE-Step 1.5 turbo, any shift: music'],
];
const PLANNERS: [name: string, title: string][] = [
  ['acestep-5Hz-lm-0.6B', 'Planner of ACE-Step 1.5, small: for thinking on little memory'],
  ['acestep-5Hz-lm-4B', 'Planner of ACE-Step 1.5, large: for thinking'],
];

const own = (name: string): ShelfPart => ({ repo: `ACE-Step/${name}`, files: USED, into: name });

export function toShelf(runtime: string): Shelf {
  return {
    runtime,
    folder: 'ACE-Step-1.5/checkpoints',
    capabilities: ['music.generate'],
    // The same music is a workflow of ComfyUI, whose name comes first.
    claim: 90,
    models: [
      {
        id: 'acestep-v15-turbo',
        title: 'ACE-Step 1.5 turbo: music, with its planner of 1.7 billion weights',
        aliases: ['ace-step-1.5', MAIN],
        parts: [...['acestep-v15-turbo', 'acestep-5Hz-lm-1.7B'].map(mainPart), ...SHARED],
        license: 'MIT',
        vram: 8 * 1024 ** 3,
      },
      ...MAKERS.map(([id, title]): ShelfModel => ({
        id,
        title,
        aliases: [`ACE-Step/${id}`],
        parts: [own(id), ...SHARED],
        license: 'MIT',
        vram: 8 * 1024 ** 3,
        after: `The server takes it when it is started with ACESTEP_CONFIG_PATH=${id}.`,
      })),
      ...PLANNERS.map(([id, title]): ShelfModel => ({
        id,
        title,
        aliases: [`ACE-Step/${id}`],
        parts: [own(id)],
        license: 'MIT',
        after: `The server takes it when it is started with ACESTEP_LM_MODEL_PATH=${id}.`,
      })),
    ],
  };
}
