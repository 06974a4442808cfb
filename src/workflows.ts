// Workflows of a runtime as callers see and change them: graphs that the runtime runs as models.
import { z } from 'zod';

/** An id is the name of a file as well. */
export const workflowId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'small letters, digits, . _ and -, at most 64, a letter or digit first');

export const workflowProblem = z.object({
  kind: z
    .enum(['graph', 'binding', 'class', 'input', 'value', 'link', 'file', 'denied'])
    .describe(
      'class and file: the server lacks something that can be installed. The others are in the workflow itself.',
    ),
  node: z.string().optional().describe('The id of the node.'),
  class_type: z.string().optional(),
  input: z.string().optional(),
  message: z.string(),
  hint: z.string().optional().describe('The remedy in one line.'),
});
export type WorkflowProblem = z.output<typeof workflowProblem>;

export const workflowView = z.object({
  id: z.string(),
  object: z.literal('workflow'),
  runtime: z.string(),
  model: z.string().nullable().describe('The model to ask for; null where its files cannot be read.'),
  capability: z.string().nullable(),
  title: z.string().nullable(),
  origin: z.enum(['shipped', 'user']),
  state: z
    .enum(['ready', 'available', 'broken', 'unknown'])
    .describe(
      'available: the server lacks files or node classes; broken: it cannot be used; unknown: the server is not reached.',
    ),
  problems: z.array(workflowProblem),
});
export type WorkflowView = z.output<typeof workflowView>;

const json = z.record(z.string(), z.unknown());

export const workflowDetails = workflowView.extend({
  graph: json.nullable().describe('In the API format.'),
  binding: json.nullable(),
  bound: z.array(z.string()).describe('What of a request goes where, one line each.'),
});
export type WorkflowDetails = z.output<typeof workflowDetails>;

export const workflowCheck = z.object({
  ok: z.boolean().describe('Nothing is wrong with the workflow itself; the server may still lack what it needs.'),
  checked: z.boolean().describe('false: the server could not be asked what it has.'),
  problems: z.array(workflowProblem),
  binding: json.nullable().describe('What was given, or what was found where nothing was.'),
  bound: z.array(z.string()),
});
export type WorkflowCheck = z.output<typeof workflowCheck>;

const given = {
  graph: json.describe('In the API format, as ComfyUI’s “Export (API)” writes it.'),
  binding: json.optional().describe('What of a request goes where; found in the graph if absent.'),
  capability: z.string().max(64).optional().describe('What it does, where that cannot be seen in the graph.'),
};
export const workflowProposal = z.strictObject(given);
export type WorkflowProposal = z.output<typeof workflowProposal>;

export const workflowInput = z.strictObject({
  id: workflowId,
  ...given,
  replace: z.boolean().default(false).describe('Write over one of yours with this id.'),
});
export type WorkflowInput = z.output<typeof workflowInput>;

/** Every member throws what it says and `storage_unavailable`. */
export interface WorkflowDesk {
  list(signal: AbortSignal): Promise<WorkflowView[]>;
  /** Throws not_found. */
  get(id: string, signal: AbortSignal): Promise<WorkflowDetails>;
  /** Throws invalid_request with every problem of the workflow itself, conflict. What the server lacks is no obstacle. */
  add(input: WorkflowInput, signal: AbortSignal): Promise<WorkflowDetails>;
  check(proposal: WorkflowProposal, signal: AbortSignal): Promise<WorkflowCheck>;
  /** Throws not_found; conflict for one that was shipped. */
  remove(id: string): Promise<void>;
}
