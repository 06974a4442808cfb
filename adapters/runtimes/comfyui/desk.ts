// Workflows as their owner sees them: listed with what is wrong with each, checked, added and removed.
import { GatewayError } from '../../../src/error.ts';
import type {
  WorkflowCheck,
  WorkflowDesk,
  WorkflowDetails,
  WorkflowProblem,
  WorkflowView,
} from '../../../src/workflows.ts';
import type { Bindable } from './bind.ts';
import { bindingSchema, describeBinding, toVariants } from './binding.ts';
import { parseGraph } from './graph.ts';
import { inferBinding } from './infer.ts';
import { boundPlaces, complete, findProblems, toText } from './needs.ts';
import { toEntry, type Entry, type Folder } from './folder.ts';
import { validateGraph } from './validate.ts';
import type { ObjectInfo } from './workflow.ts';

/** Problems that an error tells. */
const MAX_TOLD = 20;

/** What can be installed is no fault of the workflow. */
const fixable = ({ kind }: WorkflowProblem) => kind === 'file' || kind === 'class';

export function createDesk(parts: {
  source: string;
  folder: Folder;
  info(signal: AbortSignal): Promise<ObjectInfo>;
}): WorkflowDesk {
  const { source, folder } = parts;

  /** undefined where the server does not answer: what it has is then not known, and nothing else is lost. */
  async function ask(signal: AbortSignal): Promise<ObjectInfo | undefined> {
    try {
      return await parts.info(signal);
    } catch (error) {
      if (signal.aborted) throw error;
      return undefined;
    }
  }

  async function find(id: string): Promise<Entry> {
    const found = (await folder.read()).find((entry) => entry.id === id);
    if (found) return found;
    throw new GatewayError('not_found', 'There is no such workflow.', {
      source,
      hint: 'GET /workflows, or hono-ai workflows ls, lists them.',
    });
  }

  return {
    async list(signal) {
      const [entries, info] = await Promise.all([folder.read(), ask(signal)]);
      return entries.map((entry) => toView(source, entry, info)).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    },
    async get(id, signal) {
      const [entry, info] = await Promise.all([find(id), ask(signal)]);
      return toDetails(source, entry, info);
    },
    async check({ graph, binding, capability }, signal) {
      const info = await ask(signal);
      return toCheck(toProposed('workflow', graph, binding, capability), info);
    },
    async add({ id, graph, binding, capability, replace }, signal) {
      const [info, entries] = await Promise.all([ask(signal), folder.read()]);
      if (!replace && entries.some((entry) => entry.id === id && entry.origin === 'user')) {
        throw new GatewayError('conflict', `There is a workflow ${id} already.`, {
          param: 'id',
          source,
          hint: 'Say replace: true (--replace) to write over it, or choose another id.',
        });
      }
      const entry = toProposed(id, graph, binding, capability);
      const { problems } = toCheck(entry, info);
      const faults = problems.filter((problem) => !fixable(problem));
      if (!entry.workflow || faults.length > 0) throw toRefusal(faults, source);
      const parsed = parseGraph(graph).graph!;
      await folder.write(id, parsed, binding ?? toPlain(entry.workflow));
      return toDetails(source, entry, info);
    },
    async remove(id) {
      const { origin } = await find(id);
      if (origin === 'shipped') {
        throw new GatewayError('conflict', `${id} is shipped with the gateway and cannot be removed.`, {
          source,
          hint: 'A workflow of your own with this id takes its place.',
        });
      }
      await folder.remove(id);
    },
  };
}

function toProposed(id: string, graph: unknown, binding: unknown, capability: string | undefined): Entry {
  if (binding !== undefined || capability === undefined) return toEntry(id, 'user', graph, binding);
  const parsed = parseGraph(graph);
  if (!parsed.graph) return toEntry(id, 'user', graph, undefined);
  const found = inferBinding(parsed.graph, capability);
  if (found.binding) return toEntry(id, 'user', graph, found.binding);
  return { id, origin: 'user', workflow: undefined, problems: found.problems };
}

/** All problems at once, those of what the binding may change in the graph included. */
function toCheck({ workflow, problems }: Entry, info: ObjectInfo | undefined): WorkflowCheck {
  if (!workflow) return { ok: false, checked: info !== undefined, problems, binding: null, bound: [] };
  const found = info ? [...findProblems(workflow, info), ...checkChanges(workflow, info)] : [];
  return {
    ok: found.every(fixable),
    checked: info !== undefined,
    problems: found,
    binding: toPlain(workflow),
    bound: describeBinding(workflow.binding),
  };
}

/** What a server lacks for a change alone, a request is told of. */
function checkChanges(workflow: Bindable, info: ObjectInfo): WorkflowProblem[] {
  const bound = boundPlaces(workflow);
  const [, ...changed] = toVariants(workflow.graph, workflow.binding);
  const own = new Set(findProblems(workflow, info).map(toText));
  return changed.flatMap(({ name, graph }) =>
    validateGraph(complete(graph, info), info, { bound })
      .filter((problem) => !fixable(problem) && !own.has(toText(problem)))
      .map((problem) => ({ ...problem, message: `${problem.message} (with ${name})` })),
  );
}

function toView(
  runtime: string,
  { id, origin, workflow, problems }: Entry,
  info: ObjectInfo | undefined,
): WorkflowView {
  const found = workflow && info ? findProblems(workflow, info) : problems;
  return {
    id,
    object: 'workflow',
    runtime,
    model: workflow?.model ?? null,
    capability: workflow?.capability ?? null,
    title: workflow?.binding.title ?? null,
    origin,
    state: !workflow
      ? 'broken'
      : !info
        ? 'unknown'
        : found.length === 0
          ? 'ready'
          : found.every(fixable)
            ? 'available'
            : 'broken',
    problems: found,
  };
}

function toDetails(runtime: string, entry: Entry, info: ObjectInfo | undefined): WorkflowDetails {
  const { workflow } = entry;
  return {
    ...toView(runtime, entry, info),
    graph: workflow?.graph ?? null,
    binding: workflow ? toPlain(workflow) : null,
    bound: workflow ? describeBinding(workflow.binding) : [],
  };
}

/** The binding without what the schema filled in. */
function toPlain({ binding }: Bindable): Record<string, unknown> {
  const empty = bindingSchema.parse({ capability: binding.capability });
  return Object.fromEntries(
    Object.entries(binding).filter(
      ([field, value]) => field === 'capability' || JSON.stringify(value) !== JSON.stringify(empty[field as 'params']),
    ),
  );
}

function toRefusal(problems: WorkflowProblem[], source: string): GatewayError {
  const told = problems.slice(0, MAX_TOLD).map(toText);
  const more = problems.length > MAX_TOLD ? ` And ${problems.length - MAX_TOLD} more.` : '';
  const first = problems.find(({ hint }) => hint !== undefined)?.hint;
  return new GatewayError('invalid_request', `The workflow cannot be used: ${told.join(' ')}${more}`, {
    param: problems.every(({ kind }) => kind === 'binding') ? 'binding' : 'graph',
    source,
    ...(first === undefined ? {} : { hint: first }),
  });
}
