// Workflows as models: which there are, which of them a request is for, and how it is put into the graph.
import { capabilities, type CapabilityId } from '../../../src/capabilities/index.ts';
import { fileFields } from '../../../src/capabilities/file.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Model } from '../../../src/runtime.ts';
import type { WorkflowDesk } from '../../../src/workflows.ts';
import { bindRequest, type Bindable } from './bind.ts';
import { requiredFields, toVram } from './binding.ts';
import { createDesk } from './desk.ts';
import { findProblems, toRemedies } from './needs.ts';
import { createFolder, type Entry } from './folder.ts';
import { toUsual } from './usual.ts';
import type { ObjectInfo, Workflows } from './workflow.ts';

export interface WorkflowsOptions {
  /** Name of the runtime. */
  source: string;
  /** Folder of the user's own workflows. */
  dir?: string | undefined;
}

export interface OpenWorkflows extends Workflows {
  /** For whoever looks at workflows and changes them. `info` asks the server what it has; it throws where that does not answer. */
  desk(info: (signal: AbortSignal) => Promise<ObjectInfo>): WorkflowDesk;
  /** Every workflow that can be used, as last read. */
  known(): Bindable[];
  /** The same, read anew where something has changed. */
  read(): Promise<Bindable[]>;
}

/** Where nobody gave a rank, a model is chosen after those that were given one. */
const NO_RANK = 0;

export function openWorkflows({ source, dir }: WorkflowsOptions): OpenWorkflows {
  const folder = createFolder(dir);
  /** What the server had when it was last asked. */
  let known: ObjectInfo | undefined;
  const usable = (entries: Entry[]) => entries.flatMap(({ workflow }) => workflow ?? []);
  const of = (model: string) => usable(folder.entries()).filter((workflow) => workflow.model === model);

  return {
    async models(server) {
      known = server;
      const byModel = Map.groupBy(usable(await folder.read()), ({ model }) => model);
      return [...byModel].map(([id, workflows]) => toModel(id, workflows, server));
    },
    async choose(model, capability, input) {
      const all = usable(await folder.read());
      const candidates = all.filter((workflow) => workflow.model === model && workflow.capability === capability);
      const named = toNamed(input, source, candidates);
      const fitting = (named ? [named] : candidates).filter((workflow) => takes(workflow, input));
      const best = fitting.toSorted((a, b) => surplus(a, input) - surplus(b, input))[0];
      if (best) return best;
      throw notOffered({ model, capability, input, all, named: named?.id, source });
    },
    bind(workflow, input, files, server, prefix) {
      known = server;
      return bindRequest(toBindable(workflow.id, workflow), input, files, server, { prefix, source });
    },
    footprint: (model) => Math.max(0, ...of(model).map(({ binding }) => toVram(binding))) || toVram({} as never),
    pullHint(model) {
      const server = known;
      if (!server) return undefined;
      const problems = of(model).flatMap((workflow) => findProblems(workflow, server));
      const lacking = problems.filter(({ kind }) => kind === 'file' || kind === 'class');
      return lacking.length > 0 ? toRemedies(lacking) : undefined;
    },
    desk: (info) => createDesk({ source, folder, info }),
    known: () => usable(folder.entries()),
    read: async () => usable(await folder.read()),
  };

  function toBindable(id: string, given: object): Bindable {
    if ('binding' in given) return given as Bindable;
    const found = usable(folder.entries()).find((workflow) => workflow.id === id);
    if (!found) throw new GatewayError('not_found', `There is no workflow ${id}.`, { source });
    return found;
  }
}

function toModel(id: string, workflows: Bindable[], info: ObjectInfo): Model {
  const ready = workflows.filter((workflow) => findProblems(workflow, info).length === 0);
  const able = ready.length > 0 ? ready : workflows;
  const offers = (capability: CapabilityId, field: 'mask' | 'image') =>
    able.some((workflow) => workflow.capability === capability && workflow.binding.files[field] !== undefined);
  return {
    id,
    capabilities: [...new Set(able.map(({ capability }) => capability))],
    state: ready.length > 0 ? 'ready' : 'available',
    aliases: workflows.map((workflow) => workflow.id).filter((alias) => alias !== id),
    vision: false,
    mask: offers('image.edit', 'mask'),
    animate: offers('video.generate', 'image'),
    rank: Math.max(...workflows.map(({ binding }) => binding.rank ?? NO_RANK)),
    ...toFacts(workflows),
    ...toUsual(able),
  };
}

/** What the bindings of a model say of it. */
export function toFacts(workflows: Bindable[]): Pick<Model, 'vram' | 'license' | 'source'> {
  const bindings = workflows.map(({ binding }) => binding);
  const vram = Math.max(0, ...bindings.map((binding) => (binding.vram === undefined ? 0 : toVram(binding))));
  const license = [...new Set(bindings.flatMap((binding) => binding.license ?? []))].join(', ');
  const source = bindings.find((binding) => binding.source !== undefined)?.source;
  return {
    ...(vram > 0 ? { vram } : {}),
    ...(license === '' ? {} : { license }),
    ...(source === undefined ? {} : { source }),
  };
}

/** The workflow that the caller named in place of a model. */
function toNamed(input: object, runtime: string, candidates: Bindable[]): Bindable | undefined {
  const { model } = input as { model?: unknown };
  if (typeof model !== 'string') return undefined;
  const plain = model.startsWith(`${runtime}/`) ? model.slice(runtime.length + 1) : model;
  return candidates.find(({ id, model: own }) => id === plain && id !== own);
}

/** It has what the workflow needs, and a mask is never passed over. */
function takes({ binding }: Bindable, input: object): boolean {
  const given = input as Record<string, unknown>;
  const has = (field: string) => given[field] !== undefined;
  if (!requiredFields(binding).every(has)) return false;
  const files = [...fileFields(capabilities[binding.capability].input).keys()].filter(has);
  return files.every((field) => Object.hasOwn(binding.files, field));
}

/** Files of the request that it has no place for count most; of two that take all, the one that takes fewer was made for it. */
function surplus({ binding, origin }: Bindable, input: object): number {
  let points = origin === 'user' ? 0 : 0.5;
  for (const [field, places] of Object.entries(binding.files)) {
    const given = [(input as Record<string, unknown>)[field] ?? []].flat().length;
    points += given > places.length ? 100 * (given - places.length) : places.length - given;
  }
  return points;
}

function notOffered(asked: {
  model: string;
  capability: CapabilityId;
  input: object;
  all: Bindable[];
  named: string | undefined;
  source: string;
}): GatewayError {
  const { model, capability, input, all, named, source } = asked;
  const { mask, image } = input as { mask?: unknown; image?: unknown };
  const how =
    mask !== undefined
      ? ' with a mask'
      : capability === 'video.generate'
        ? image
          ? ' from a picture'
          : ' without a picture'
        : '';
  const others = all.filter((workflow) => workflow.capability === capability && takes(workflow, input));
  const able = [...new Set(others.map((workflow) => (workflow.model === model ? workflow.id : workflow.model)))];
  return new GatewayError('not_supported', `${named ?? model} does not offer ${capability}${how}.`, {
    param: 'model',
    source,
    hint:
      able.length > 0
        ? `Models that do: ${able.slice(0, 5).join(', ')}.`
        : 'Add a workflow that does: hono-ai workflows add FILE.',
  });
}
