// Getting models for ComfyUI: all that a workflow needs, or one file, into the folders that its loaders look into.
import type { PullKind } from '../../../src/capabilities/model/fields.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Offer, Puller, PullEvent, PullPlan, PullWant } from '../../../src/puller.ts';
import type { Hub } from '../../downloads/hub.ts';
import type { Downloads } from '../../downloads/index.ts';
import { fetchAll, ofOneFile, weigh, type ModelFile } from '../../shelves/files.ts';
import { isPickle } from '../../shelves/kinds.ts';
import { namesSingle, toKind, toSingle } from '../../shelves/single.ts';
import type { Bindable } from './bind.ts';
import type { Classes } from './classes.ts';
import { folderOfKind, type ModelFolders } from './folders.ts';
import { findMissingClasses, findRecipe, toFiles, toNeeds, type Need, type Recipe } from './recipe.ts';
import { createRemover } from './remover.ts';
import { toFacts, type OpenWorkflows } from './shelf.ts';
import type { ObjectInfo } from './workflow.ts';

export interface PullerParts {
  /** Name of the runtime. */
  source: string;
  workflows: OpenWorkflows;
  classes: Classes;
  folders: ModelFolders;
  downloads: Downloads;
  hub: Hub;
  /** The model that is in memory, if one is. */
  loaded(signal: AbortSignal): Promise<string | undefined>;
}

/** What is to be done for a want: files that lack here, those that are there, and what the caller should know. */
interface Work {
  model: string;
  /** Those that are to be fetched. */
  lacking: ModelFile[];
  /** Those that are here, or that the server says it has. */
  present: { name: string; folder: string | undefined; size: number | undefined }[];
  facts: ReturnType<typeof toFacts>;
  warnings: string[];
}

/** How old what the server has may be, in milliseconds, before a pull asks anew. */
const FRESH_MS = 1000;
const LIST_MS = 120_000;
/** Milliseconds until a server that does not say what it has is let be. */
const ASK_MS = 3000;

export function createPuller(parts: PullerParts): Puller {
  const { source, workflows, classes, folders, downloads, hub } = parts;
  // What may be pulled is asked without waiting: those of the user's own are known soon.
  workflows.read().catch(() => {});

  /** undefined where the server does not answer: then the disk tells. */
  async function ask(signal: AbortSignal, maxAgeMs: number): Promise<ObjectInfo | undefined> {
    try {
      return await classes.get(AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]), maxAgeMs);
    } catch (error) {
      if (signal.aborted) throw error;
      return undefined;
    }
  }

  async function toWork(want: PullWant, signal: AbortSignal): Promise<Work> {
    const recipe = want.source === undefined ? findRecipe(await workflows.read(), want.model) : undefined;
    if (recipe && want.sha256 !== undefined) throw ofOneFile(source);
    if (recipe) return ofRecipe(recipe, signal);
    if (namesSingle(want, hub)) return ofSingle(want, signal);
    const known = [...new Set(workflows.known().map(({ model }) => model))].toSorted();
    throw new GatewayError('model_not_found', `There is no workflow ${want.model}, and no address says where it is.`, {
      param: 'model',
      source,
      hint: `Give a source, or take one of ${known.join(', ')}.`,
    });
  }

  async function ofRecipe(recipe: Recipe, signal: AbortSignal): Promise<Work> {
    const info = await ask(signal, FRESH_MS);
    const warnings = info ? findMissingClasses(recipe, info) : [];
    if (!info) warnings.push(`${source} does not answer: what it has is taken from its folders.`);
    const work: Work = { model: recipe.model, lacking: [], present: [], facts: toFacts(recipe.workflows), warnings };
    for (const file of toFiles(recipe, info, hub)) {
      const { name, folder, listed, url, refusal } = file;
      const here = folder === undefined ? undefined : await folders.find(folder, listed ?? name, signal);
      if (listed !== undefined || here) {
        work.present.push({ name, folder, size: here?.size });
        continue;
      }
      if (url === undefined) {
        warnings.push(`${refusal}: put it into models/${folder ?? '…'} of ComfyUI.`);
        continue;
      }
      if (isPickle(name)) warnings.push(`${name} is a pickle: what it holds is run when it is loaded.`);
      work.lacking.push({ ...(await toPlace(folder!, name, recipe, signal)), url });
    }
    return work;
  }

  async function ofSingle(want: PullWant, signal: AbortSignal): Promise<Work> {
    const common = { hub, downloads, signal, source };
    const single = await toSingle(want, common);
    const kind = await toKind(single, want, { ...common, known: knownKind });
    const folder = kind === 'gguf' ? folderOfKind.diffusion_model : folderOfKind[kind];
    const { url, name, size, sha256 } = single;
    const warnings = isPickle(name) ? [`${name} is a pickle: what it holds is run when it is loaded.`] : [];
    if (/\.gguf$/i.test(name))
      warnings.push('ComfyUI reads .gguf only with an extension: comfy node install comfyui-gguf');
    const place = await toPlace(folder, name, undefined, signal);
    return {
      model: name,
      lacking: [{ ...place, url, size, sha256, replace: false }],
      present: [],
      facts: { source: single.source },
      warnings,
    };
  }

  /** What a workflow calls a file of this name. */
  function knownKind(name: string): PullKind | undefined {
    const known = toNeeds({ model: '', workflows: workflows.known() }, undefined);
    const folder = known.find((file) => file.name === name)?.folder;
    return (Object.keys(folderOfKind) as (keyof typeof folderOfKind)[]).find((kind) => folderOfKind[kind] === folder);
  }

  async function toPlace(folder: string, name: string, recipe: Recipe | undefined, signal: AbortSignal) {
    const place = await folders.place(folder, signal);
    if (!place) throw nowhere(source, recipe && workflows.pullHint(recipe.model));
    return { root: place.root, path: place.way === '' ? name : `${place.way}/${name}`, name, folder };
  }

  return {
    runtime: source,
    // The user's own.
    ready: () => workflows.read(),
    claims: (want) => claimOf(want, workflows.known(), hub),
    async plan(want, signal) {
      const work = await toWork(want, signal);
      return toPlan(work, await weigh(work.lacking, downloads, signal));
    },
    async *pull(want, signal): AsyncGenerator<PullEvent> {
      const { model, lacking, present, warnings } = await toWork(want, signal);
      for (const warning of warnings) yield { type: 'warning', warning };
      const fetched = yield* fetchAll(lacking, downloads, { signal, source });
      // The server looks into its folders when it is asked.
      classes.forget();
      for (const warning of await unseen(want, lacking, signal)) yield { type: 'warning', warning };
      const files = [...present.map(({ name, folder, size }) => toPulled(name, folder, size)), ...fetched.files];
      yield { type: 'pulled', model, files, already: fetched.already };
    },
    async search(words, signal) {
      const [all, info] = await Promise.all([workflows.read(), ask(signal, LIST_MS)]);
      const found = [...Map.groupBy(all, ({ model }) => model)].filter(([, each]) => matches(each, words));
      return Promise.all(found.map(([model, each]) => toOffer({ model, workflows: each }, info, signal)));
    },
    remove: createRemover({ ...parts, ask: (signal) => ask(signal, FRESH_MS) }),
  };

  async function toOffer(recipe: Recipe, info: ObjectInfo | undefined, signal: AbortSignal): Promise<Offer> {
    const isHere = async ({ listed, folder, name }: Need) =>
      listed !== undefined || (folder !== undefined && (await folders.find(folder, name, signal)) !== undefined);
    const files = await Promise.all(toNeeds(recipe, info).map(isHere));
    return { ...toBareOffer(recipe), present: files.every(Boolean) };
  }

  /** Where it was put the server does not look, if it does not list it now. */
  async function unseen(want: PullWant, fetched: ModelFile[], signal: AbortSignal): Promise<string[]> {
    if (fetched.length === 0 || want.source !== undefined) return [];
    const recipe = findRecipe(workflows.known(), want.model);
    const info = recipe && (await ask(signal, 0));
    if (!info) return [];
    const names = new Set(fetched.map(({ name }) => name));
    const lost = toNeeds(recipe, info).filter(({ name, listed }) => names.has(name) && listed === undefined);
    if (lost.length === 0) return [];
    const told = lost.map(({ name }) => name).join(', ');
    return [`${source} does not list ${told}: see that HONO_AI_MODEL_DIRS names the folder that it reads.`];
  }
}

/** As `Puller.claims` says. */
export function claimOf(want: PullWant, known: Bindable[], hub: Hub): number | undefined {
  if (want.source === undefined && findRecipe(known, want.model)) return 100;
  const named = namesSingle(want, hub);
  if (named === undefined) return undefined;
  if (want.kind !== undefined && want.kind !== 'gguf') return 80;
  // A language model in this format is far more likely.
  const isGguf = want.kind === 'gguf' || /\.gguf([?#]|$)/i.test(want.source ?? want.model);
  return named === 'file' && !isGguf ? 60 : 10;
}

/** What is known of it without looking at any disk. */
export function toBareOffer({ model, workflows }: Recipe): Omit<Offer, 'present'> {
  // Of several workflows the one that makes something out of words names the model.
  const titled = workflows.filter(({ binding }) => binding.title);
  const title = (titled.find(({ capability }) => capability.endsWith('.generate')) ?? titled[0])?.binding.title;
  return {
    model,
    ...(title === undefined ? {} : { title }),
    capabilities: [...new Set(workflows.map(({ capability }) => capability))],
    ...toFacts(workflows),
    popularity: Math.max(...workflows.map(({ binding }) => binding.rank ?? 0)),
  };
}

function toPlan({ model, present, facts, warnings }: Work, weighed: Awaited<ReturnType<typeof weigh>>): PullPlan {
  const { license, source, vram } = facts;
  const sizes = present.map(({ size }) => size);
  const known = weighed.size !== undefined && sizes.every((size) => size !== undefined);
  const size = known ? sizes.reduce<number>((sum, each) => sum + each!, weighed.size!) : undefined;
  return {
    model,
    files: [
      ...present.map(({ name, folder, size: bytes }) => ({ ...toPulled(name, folder, bytes), present: true })),
      ...weighed.files,
    ],
    ...(weighed.bytes === undefined ? {} : { bytes: weighed.bytes }),
    ...(weighed.free === undefined ? {} : { free: weighed.free }),
    ...(license === undefined ? {} : { license }),
    ...(source === undefined ? {} : { source }),
    facts: { ...(size === undefined ? {} : { size }), ...(vram === undefined ? {} : { vram }) },
    warnings: [...warnings, ...weighed.warnings],
  };
}

function toPulled(name: string, folder: string | undefined, size: number | undefined) {
  return { name, ...(folder === undefined ? {} : { folder }), ...(size === undefined ? {} : { size }) };
}

/** Every word in its id, its title or what it can be asked. */
export function matches(workflows: Bindable[], words: string): boolean {
  const text = workflows
    .flatMap(({ id, model, capability, binding }) => [id, model, capability, binding.title ?? ''])
    .join(' ')
    .toLowerCase();
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

function nowhere(source: string, commands: string | undefined): GatewayError {
  const set = `Set HONO_AI_MODEL_DIRS=${source}:/path/to/ComfyUI/models`;
  return new GatewayError('not_supported', `Where the models of ${source} lie is not known on this machine.`, {
    source,
    hint: commands ? `${set}, or on its own machine: ${commands.replace(/^To get it: /, '')}` : `${set}.`,
  });
}
