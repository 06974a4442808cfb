// Deleting models of ComfyUI from disk: what only this model needs, and only what really lies in its folders.
import type { PulledFile } from '../../../src/capabilities/model/fields.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Puller } from '../../../src/puller.ts';
import { removeFile } from '../../shelves/files.ts';
import { isWeights } from '../../shelves/kinds.ts';
import { folderOfKind } from './folders.ts';
import { baseName } from './names.ts';
import type { PullerParts } from './puller.ts';
import { findRecipe, toNeeds, type Need, type Recipe } from './recipe.ts';
import type { ObjectInfo } from './workflow.ts';

type Found = PulledFile & { root: string; path: string };

export function createRemover(
  parts: PullerParts & { ask(signal: AbortSignal): Promise<ObjectInfo | undefined> },
): NonNullable<Puller['remove']> {
  const { source, workflows, classes, folders, loaded } = parts;

  async function find({ folder, name, listed }: Need, signal: AbortSignal): Promise<Found | undefined> {
    const found = folder === undefined ? undefined : await folders.find(folder, listed ?? name, signal);
    return found && { name, folder: folder!, size: found.size, root: found.root, path: found.path };
  }

  /** Everything that other models that can run now need: place → who. */
  async function findNeeded(recipe: Recipe | undefined, info: ObjectInfo | undefined, signal: AbortSignal) {
    const needed = new Map<string, string>();
    const others = Map.groupBy(workflows.known(), ({ model }) => model);
    for (const [model, own] of others) {
      if (model === recipe?.model) continue;
      const files = toNeeds({ model, workflows: own }, info);
      const found = await Promise.all(files.map((file) => find(file, signal)));
      if (!found.every(Boolean)) continue;
      for (const each of found) needed.set(`${each!.root}/${each!.path}`, model);
    }
    return needed;
  }

  async function findOwn(name: string, recipe: Recipe | undefined, info: ObjectInfo | undefined, signal: AbortSignal) {
    const files = recipe
      ? toNeeds(recipe, info)
      : Object.values(folderOfKind).map((folder) => ({ name, folder, listed: undefined }));
    return (await Promise.all(files.map((file) => find(file, signal)))).flatMap((found) => found ?? []);
  }

  return async (model, signal) => {
    await workflows.read();
    const recipe = findRecipe(workflows.known(), model);
    if (!recipe && (!isWeights(model) || baseName(model) !== model)) throw unknown(model, source);
    if (recipe && (await loaded(signal)) === recipe.model) throw inMemory(recipe.model, source);
    folders.forget();
    const info = await parts.ask(signal);
    const own = await findOwn(model, recipe, info, signal);
    if (own.length === 0) throw unknown(model, source);
    const needed = await findNeeded(recipe, info, signal);
    const shared = own.flatMap(({ root, path }) => needed.get(`${root}/${path}`) ?? []);
    const mine = own.filter(({ root, path }) => !needed.has(`${root}/${path}`));
    if (mine.length === 0) throw isShared(model, [...new Set(shared)], source);
    if (!recipe && own.length > 1) throw isTwice(model, own, source);
    let freed = 0;
    for (const { root, path } of mine) freed += await removeFile(root, path, source);
    classes.forget();
    return { freed, files: mine.map(({ root: _root, path: _path, ...file }) => file) };
  };
}

function unknown(model: string, source: string): GatewayError {
  return new GatewayError(
    'model_not_found',
    `No file of ${model} lies in a folder of ${source} that can be reached here.`,
    {
      param: 'model',
      source,
      hint: `Where its models lie is set by HONO_AI_MODEL_DIRS=${source}:/path/to/ComfyUI/models.`,
    },
  );
}

function inMemory(model: string, source: string): GatewayError {
  return new GatewayError('conflict', `${model} is in memory.`, {
    param: 'model',
    source,
    hint: `Unload it first: hono-ai models unload ${model}`,
  });
}

function isShared(model: string, others: string[], source: string): GatewayError {
  return new GatewayError('conflict', `Every file of ${model} is needed by ${others.join(', ')} as well.`, {
    param: 'model',
    source,
    hint: `Remove ${others[0]} first.`,
  });
}

function isTwice(name: string, found: Found[], source: string): GatewayError {
  return new GatewayError(
    'conflict',
    `There are several files ${name}: in ${found.map(({ folder }) => folder).join(', ')}.`,
    {
      param: 'model',
      source,
      hint: 'Remove the one that is meant by hand.',
    },
  );
}
