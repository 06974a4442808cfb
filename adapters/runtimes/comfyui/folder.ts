// The workflows there are: those that are shipped, and those in the user's folder, which is read again whenever it has changed.
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../../../src/error.ts';
import { workflowId, type WorkflowProblem } from '../../../src/workflows.ts';
import type { Bindable } from './bind.ts';
import { checkBinding, parseBinding, toVariants } from './binding.ts';
import { findDenied, MAX_BYTES, parseGraph } from './graph.ts';
import { inferBinding } from './infer.ts';

/** A pair of files: a workflow, or what is wrong with it. */
export interface Entry {
  id: string;
  origin: 'shipped' | 'user';
  workflow: Bindable | undefined;
  /** Of the files themselves, whatever the server has. */
  problems: WorkflowProblem[];
}

export interface Folder {
  /** As last read; without having read, what is shipped. */
  entries(): Entry[];
  /** Reads what has changed. Files that are broken are entries with problems, and a folder that cannot be read has none. */
  read(): Promise<Entry[]>;
  /** Both files whole or not at all. Throws storage_unavailable. */
  write(id: string, graph: object, binding: object | undefined): Promise<void>;
  /** Throws storage_unavailable. */
  remove(id: string): Promise<void>;
}

const SHIPPED = new URL('./workflows/', import.meta.url);
const BINDING = '.binding.json';
/** Files in the folder beyond this many are not looked at. */
const MAX_FILES = 2000;

let shipped: Entry[] | undefined;

export function createFolder(dir: string | undefined): Folder {
  shipped ??= readShipped();
  let own: Entry[] = [];
  let seen: string | undefined;
  let turn: Promise<unknown> = Promise.resolve();

  async function refresh(): Promise<void> {
    if (dir === undefined) return;
    const files = await listFiles(dir);
    const state = files.map(({ name, size, mtime }) => `${name} ${size} ${mtime}`).join('\n');
    if (state === seen) return;
    own = await readFolder(dir, files);
    seen = state;
  }

  /** Whoever reads while somebody writes sees it before or after. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = turn.then(work);
    turn = next.catch(() => {});
    return next;
  }

  /** A workflow of the user's hides the shipped one of the same name. */
  const entries = () => {
    const names = new Set(own.map(({ id }) => id));
    return [...own, ...shipped!.filter(({ id }) => !names.has(id))];
  };

  return {
    entries,
    read: () =>
      inTurn(async () => {
        await refresh();
        return entries();
      }),
    write: (id, graph, binding) =>
      inTurn(() =>
        writing(async () => {
          const folder = expectFolder(dir);
          const [graphFile, bindingFile] = toFiles(folder, id);
          await mkdir(folder, { recursive: true, mode: 0o700 });
          // The graph comes last: it is what makes a workflow, and a binding alone is none.
          if (binding) await writeWhole(folder, bindingFile, binding);
          else await rm(bindingFile, { force: true });
          await writeWhole(folder, graphFile, graph);
          seen = undefined;
        }),
      ),
    remove: (id) =>
      inTurn(() =>
        writing(async () => {
          for (const file of toFiles(expectFolder(dir), id)) await rm(file, { force: true });
          seen = undefined;
        }),
      ),
  };
}

/** What is wrong with a graph and its binding, whatever the server has; a workflow where nothing is. */
export function toEntry(id: string, origin: Entry['origin'], given: unknown, binding: unknown): Entry {
  const broken = (problems: WorkflowProblem[]): Entry => ({ id, origin, workflow: undefined, problems });
  const parsed = parseGraph(given);
  if (!parsed.graph) return broken(parsed.problems);
  const { graph } = parsed;
  const bound = binding === undefined ? inferBinding(graph) : parseBinding(binding);
  const denied = origin === 'user' ? findDenied(graph) : [];
  if (!bound.binding) return broken([...denied, ...bound.problems]);
  const misplaced = checkBinding(bound.binding, graph);
  if (denied.length + misplaced.length > 0) return broken([...denied, ...misplaced]);
  const changed = origin === 'user' ? toVariants(graph, bound.binding).flatMap((each) => checkVariant(each)) : [];
  if (changed.length > 0) return broken(changed);
  const { binding: read } = bound;
  const { model = id, capability, megapixels } = read;
  const limit = megapixels === undefined ? {} : { megapixels };
  const workflow = { id, model, capability, origin, graph, ...limit, binding: read };
  return { id, origin, workflow, problems: [] };
}

/** What a binding changes must be as harmless as the graph itself. */
function checkVariant({ name, graph }: { name: string; graph: object }): WorkflowProblem[] {
  const parsed = parseGraph(graph);
  const problems = parsed.graph ? findDenied(parsed.graph) : parsed.problems;
  return problems.map((problem) => ({ ...problem, message: `${name}: ${problem.message}` }));
}

interface File {
  name: string;
  size: number;
  mtime: number;
}

async function listFiles(dir: string): Promise<File[]> {
  const names = await readdir(dir).catch(() => []);
  const json = names.filter((name) => name.endsWith('.json') && !name.startsWith('.')).toSorted();
  const files = await Promise.all(
    json.slice(0, MAX_FILES).map(async (name) => {
      const about = await stat(join(dir, name)).catch(() => undefined);
      return about?.isFile() ? [{ name, size: about.size, mtime: about.mtimeMs }] : [];
    }),
  );
  return files.flat();
}

async function readFolder(dir: string, files: File[]): Promise<Entry[]> {
  const names = new Set(files.map(({ name }) => name));
  const entries: Entry[] = [];
  for (const { name } of files) {
    if (name.endsWith(BINDING)) {
      const id = name.slice(0, -BINDING.length);
      if (!names.has(`${id}.json`)) entries.push(toBroken(id, `There is a binding but no ${id}.json.`));
      continue;
    }
    const id = name.slice(0, -'.json'.length);
    const checked = workflowId.safeParse(id);
    if (!checked.success) {
      entries.push(toBroken(id, `The name of the file is no id: ${checked.error.issues[0]!.message}.`));
      continue;
    }
    const graph = await readJson(dir, name, files);
    const binding = names.has(id + BINDING) ? await readJson(dir, id + BINDING, files) : { value: undefined };
    if ('problem' in graph) entries.push(toBroken(id, graph.problem));
    else if ('problem' in binding) entries.push(toBroken(id, binding.problem));
    else entries.push(named(toEntry(id, 'user', graph.value, binding.value), names.has(id + BINDING)));
  }
  return entries;
}

/** Problems of a binding say which file they are in. */
function named(entry: Entry, bound: boolean): Entry {
  const file = (kind: WorkflowProblem['kind']) => entry.id + (kind === 'binding' && bound ? BINDING : '.json');
  return {
    ...entry,
    problems: entry.problems.map((problem) => ({ ...problem, message: `${file(problem.kind)}: ${problem.message}` })),
  };
}

async function readJson(dir: string, name: string, files: File[]): Promise<{ value: unknown } | { problem: string }> {
  if ((files.find((file) => file.name === name)?.size ?? 0) > 2 * MAX_BYTES) {
    return { problem: `${name} is larger than ${2 * MAX_BYTES} bytes.` };
  }
  try {
    return { value: JSON.parse(await readFile(join(dir, name), 'utf8')) };
  } catch (error) {
    return { problem: error instanceof SyntaxError ? `${name} is not valid JSON.` : `${name} cannot be read.` };
  }
}

function toBroken(id: string, message: string): Entry {
  return { id: id.slice(0, 100), origin: 'user', workflow: undefined, problems: [{ kind: 'graph', message }] };
}

function readShipped(): Entry[] {
  const read = (name: string): unknown => JSON.parse(readFileSync(new URL(name, SHIPPED), 'utf8'));
  return readdirSync(SHIPPED)
    .filter((name) => name.endsWith('.json') && !name.endsWith(BINDING))
    .toSorted()
    .map((name) => {
      const id = name.slice(0, -'.json'.length);
      return toEntry(id, 'shipped', read(name), read(id + BINDING));
    });
}

async function writeWhole(folder: string, path: string, value: object): Promise<void> {
  const part = join(folder, `.${randomUUID()}.part`);
  try {
    await writeFile(part, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true }).catch(() => {});
    throw error;
  }
}

function toFiles(folder: string, id: string): [graph: string, binding: string] {
  // The route has checked it; a path is made of it here.
  workflowId.parse(id);
  return [join(folder, `${id}.json`), join(folder, id + BINDING)];
}

function expectFolder(dir: string | undefined): string {
  if (dir !== undefined) return dir;
  throw new GatewayError('not_supported', 'This runtime keeps no workflows of your own.', {
    hint: 'Set HONO_AI_WORKFLOWS_DIR.',
  });
}

async function writing(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    const { code = 'unknown' } = error as { code?: string };
    throw new GatewayError(
      code === 'ENOSPC' ? 'storage_full' : 'storage_unavailable',
      `The workflow cannot be written: ${code}.`,
      {
        hint: 'See that the gateway may write to the folder of workflows (HONO_AI_WORKFLOWS_DIR).',
        cause: error,
      },
    );
  }
}
