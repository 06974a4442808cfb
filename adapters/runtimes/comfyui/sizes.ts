// How large models of ComfyUI are on disk, where their files lie on this machine.
import type { Model } from '../../../src/runtime.ts';
import type { ModelFolders } from './folders.ts';
import { toNeeds } from './recipe.ts';
import type { OpenWorkflows } from './shelf.ts';
import type { ObjectInfo } from './workflow.ts';

export interface Sizes {
  /** Those whose files can all be seen are told how large these are. */
  add(models: Model[], info: ObjectInfo, signal: AbortSignal): Promise<Model[]>;
}

/** Milliseconds for all of them: a list of models does not wait for a disk that sleeps. */
const SIZES_MS = 1000;

export function createSizes(workflows: Pick<OpenWorkflows, 'known'>, folders: ModelFolders): Sizes {
  async function measure(model: string, info: ObjectInfo, signal: AbortSignal): Promise<number | undefined> {
    const own = workflows.known().filter((workflow) => workflow.model === model);
    let total = 0;
    for (const { folder, listed } of toNeeds({ model, workflows: own }, info)) {
      // One that only a workflow needs which cannot run yet is no part of what is on disk.
      if (listed === undefined) continue;
      const found = folder === undefined ? undefined : await folders.find(folder, listed, signal);
      if (!found) return undefined;
      total += found.size;
    }
    return total > 0 ? total : undefined;
  }

  async function addOne(model: Model, info: ObjectInfo, signal: AbortSignal): Promise<Model> {
    const size = model.state === 'ready' ? await measure(model.id, info, signal).catch(() => undefined) : undefined;
    return size === undefined ? model : { ...model, size };
  }

  return {
    async add(models, info, signal) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<Model[]>((resolve) => (timer = setTimeout(() => resolve(models), SIZES_MS)));
      const sized = Promise.all(models.map((model) => addOne(model, info, signal)));
      return Promise.race([sized, late]).finally(() => clearTimeout(timer));
    },
  };
}
