// What a model of workflows is made of: its files and node classes, which of them the server has, and where the others are got.
import type { Hub } from '../../downloads/hub.ts';
import { isSafePath } from '../../downloads/names.ts';
import { isPickle } from '../../shelves/kinds.ts';
import type { Bindable } from './bind.ts';
import { isModelFolder } from './folders.ts';
import { findClass, findInput, toInputs } from './info.ts';
import { baseName, isModelFile, sameFile } from './names.ts';
import { findProblems, neededFiles, type NeededFile } from './needs.ts';
import type { ObjectInfo } from './workflow.ts';

export interface Recipe {
  /** The id that it has as a model. */
  model: string;
  workflows: Bindable[];
}

/** A file that a recipe needs. */
export interface Need {
  name: string;
  /** Of `models`; undefined where nobody knows. */
  folder: string | undefined;
  /** What the server calls it; undefined where it lacks it, or does not answer. */
  listed: string | undefined;
}

/** Where it is got, or why it is not. */
export type RecipeFile = Need & ({ url: string; refusal?: undefined } | { url?: undefined; refusal: string });

/** By the id of a model, or of one of its workflows. */
export function findRecipe(workflows: Bindable[], name: string): Recipe | undefined {
  const ofModel = workflows.filter(({ model }) => model === name);
  if (ofModel.length > 0) return { model: name, workflows: ofModel };
  const one = workflows.find(({ id }) => id === name);
  return one && { model: one.model, workflows: [one] };
}

/** Each once, however many workflows share it; as one of them that says where it is got has it. */
export function toNeeds({ workflows }: Recipe, info: ObjectInfo | undefined): Need[] {
  return collect(workflows, info).map(({ name, folder, listed }) => ({ name, folder, listed }));
}

/** The same, with where each is got. */
export function toFiles({ workflows }: Recipe, info: ObjectInfo | undefined, hub: Hub): RecipeFile[] {
  return collect(workflows, info).map(({ name, folder, listed, url, origin }) => {
    const where = toUrl({ name, folder, url, origin }, hub);
    return { name, folder, listed, ...where };
  });
}

/** One line for each extension that has to be installed: no download brings it. */
export function findMissingClasses({ workflows }: Recipe, info: ObjectInfo): string[] {
  const byHint = new Map<string, Set<string>>();
  for (const problem of workflows.flatMap((workflow) => findProblems(workflow, info))) {
    if (problem.kind !== 'class') continue;
    const hint = problem.hint ?? '';
    byHint.set(hint, (byHint.get(hint) ?? new Set()).add(problem.class_type!));
  }
  return [...byHint].map(
    ([hint, classes]) => `ComfyUI lacks node classes, which no download brings: ${[...classes].join(', ')}. ${hint}`,
  );
}

interface Collected extends Need {
  url: string | undefined;
  origin: Bindable['origin'];
}

function collect(workflows: Bindable[], info: ObjectInfo | undefined): Collected[] {
  const files = new Map<string, Collected>();
  for (const workflow of workflows) {
    for (const needed of neededFiles(workflow)) {
      // Whatever folder of its own the graph names it in: the server finds it by its last name.
      const name = baseName(needed.name);
      const folder = needed.folder !== undefined && isModelFolder(needed.folder) ? needed.folder : undefined;
      const listed = info && findListed(needed, workflow, info);
      const key = `${folder}/${name}`;
      if (files.get(key)?.url === undefined) {
        files.set(key, { name, folder, listed, url: needed.url, origin: workflow.origin });
      }
    }
  }
  return [...files.values()];
}

function toUrl(
  { name, folder, url, origin }: Omit<Collected, 'listed'>,
  hub: Hub,
): { url: string } | { refusal: string } {
  if (url === undefined) return { refusal: `Nobody says where ${name} is got` };
  if (folder === undefined) return { refusal: `Nobody knows which folder ${name} belongs into` };
  if (!isModelFile(name) || !isSafePath(name))
    return { refusal: `Under the name ${JSON.stringify(name)} no weights are kept` };
  if (origin === 'user' && isPickle(name)) {
    return { refusal: `${name} may run code when it is loaded, and a workflow of your own does not vouch for it` };
  }
  // By its own name, so that a mirror that is set is asked.
  const place = hub.parse(url);
  return { url: place?.path === undefined ? url : hub.urlOf(place.repo, place.revision, place.path) };
}

function findListed({ node, input, name }: NeededFile, { graph }: Bindable, info: ObjectInfo): string | undefined {
  const known = findClass(info, graph[node]!.class_type);
  const spec = known && findInput(toInputs(known), input);
  return spec?.kind === 'choice' ? sameFile(name, spec.options) : undefined;
}
