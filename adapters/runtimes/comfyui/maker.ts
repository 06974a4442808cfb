// One request from its input to its files: the workflow is chosen, files are uploaded, the graph is bound and run.
import {
  capabilities,
  type CapabilityId,
  type Chunk,
  type Input,
  type Result,
} from '../../../src/capabilities/index.ts';
import { GatewayError } from '../../../src/error.ts';
import type { RunEvent } from '../../../src/event.ts';
import type { MediaTools } from '../../../src/media.ts';
import type { Call } from '../../../src/runtime.ts';
import type { Classes } from './classes.ts';
import { cancelled } from './failure.ts';
import { runPrompt } from './jobs.ts';
import type { JobParts } from './jobs.ts';
import type { Memory } from './memory.ts';
import { pickFiles, readFiles } from './outputs.ts';
import { toSafe, uploadFiles } from './uploads.ts';
import type { BoundGraph, ObjectInfo, UploadedFiles, Workflow, Workflows } from './workflow.ts';

export type Maker = Extract<CapabilityId, `${'image' | 'video' | 'music'}.${string}`>;

export interface MakerParts extends JobParts {
  tools: MediaTools;
  workflows: Workflows;
  classes: Classes;
  memory: Memory;
  /** Bytes of files that a request may hold in memory; others are read when they are wanted. */
  room: number;
  /** How old the list of node classes may be, in milliseconds, before what is missing in it is looked for again. */
  staleMs: number;
}

/** A request as far as it is the same for every try. */
interface Request {
  workflow: Workflow;
  input: object;
  files: UploadedFiles;
  call: Call;
}

export async function* make<Id extends Maker>(
  parts: MakerParts,
  capability: Id,
  input: Input<Id>,
  call: Call,
): AsyncGenerator<RunEvent<Chunk<Id>, Result<Id>>> {
  const { client, workflows, room } = parts;
  const { signal } = call;
  if (signal.aborted) throw cancelled();
  const workflow = await workflows.choose(call.model.id, capability, input);
  const { files, warnings } = await uploadFiles(parts, workflow, input, call);
  for (const warning of warnings) yield { type: 'warning', warning };
  // Names of its own: what a server remembers of the same graph has other names.
  const prefix = `hono-ai/${toSafe(call.requestId)}-${crypto.randomUUID().slice(0, 8)}`;
  const { bound, info } = await bind(parts, { workflow, input, files, call }, prefix);
  for (const warning of bound.warnings) yield { type: 'warning', warning };
  const entry = yield* run(parts, bound, info, call);
  const { makes = 'image' } = capabilities[capability];
  const { graph, outputs: nodes } = bound;
  const picked = pickFiles(entry, { source: client.upstream.name, makes, graph, nodes, prefix });
  const made = await readFiles(client, picked, { room, signal });
  const result = (bound.seed === undefined ? {} : { seed: bound.seed }) as Result<Id>;
  yield { type: 'result', result, files: made };
}

async function* run(parts: MakerParts, { graph }: BoundGraph, info: ObjectInfo, { model, signal }: Call) {
  const { workflows, memory, classes } = parts;
  const pullHint = workflows.pullHint(model.id);
  const ended = memory.ran(model.id);
  try {
    return yield* runPrompt(parts, { graph, info, model: model.id, pullHint, signal, onStale: classes.forget });
  } finally {
    ended();
  }
}

/** What seems to be missing may have been installed since the server was asked. */
async function bind(
  { classes, workflows, staleMs }: MakerParts,
  { workflow, input, files, call }: Request,
  prefix: string,
): Promise<{ bound: BoundGraph; info: ObjectInfo }> {
  const once = async () => {
    const info = await classes.get(call.signal);
    return { bound: workflows.bind(workflow, input, files, info, prefix), info };
  };
  try {
    return await once();
  } catch (error) {
    const isMissing =
      error instanceof GatewayError && (error.code === 'model_not_found' || error.code === 'not_supported');
    if (!isMissing || !classes.isOlder(staleMs)) throw error;
    classes.forget();
    return once();
  }
}
