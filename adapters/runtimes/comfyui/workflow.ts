// What a ComfyUI workflow is to the gateway: a graph, and what of a request goes where in it.
import type { CapabilityId } from '../../../src/capabilities/index.ts';
import type { Model } from '../../../src/runtime.ts';

/** A graph in ComfyUI's API format: node id → node. A link is `[node id, output index]`. */
export type Graph = Record<string, GraphNode>;

export interface GraphNode {
  class_type: string;
  inputs: Record<string, unknown>;
  _meta?: { title?: string };
}

/** What a server says of its node classes, by class. */
export type ObjectInfo = Record<string, NodeInfo>;

export interface NodeInfo {
  input?: { required?: Record<string, unknown>; optional?: Record<string, unknown> };
  output?: unknown[];
  output_node?: boolean;
  [other: string]: unknown;
}

/** One workflow: what of which capability of which model it does. */
export interface Workflow {
  /** Unique among workflows; the name of its file. */
  id: string;
  /** The model that it belongs to; several workflows may make up one. Its id where the binding names none. */
  model: string;
  capability: CapabilityId;
  origin: 'shipped' | 'user';
  graph: Graph;
  /** Pictures that are larger are made smaller before they are sent. */
  megapixels?: number;
}

/** A request of a workflow, ready to be sent. */
export interface BoundGraph {
  graph: Graph;
  /** What of the request could not be honoured. */
  warnings: string[];
  /** The seed that is in the graph, where it has one. */
  seed: number | undefined;
  /** Ids of the nodes whose outputs are the answer; all outputs where it is empty. */
  outputs: string[];
}

/** Files of a request, by field: what the server calls them. */
export type UploadedFiles = Record<string, string[]>;

/**
 * Opened by `openWorkflows` of ./shelf.ts, whose `desk(info)` is the adapter's `workflows`. Where a caller named a workflow as its
 * model, `input.model` still says so: `choose` then takes that one.
 */
export interface Workflows {
  /** The models that all workflows make. `ready` where the server has every file and class they need, else `available`. */
  models(info: ObjectInfo): Promise<Model[]>;
  /** Throws not_supported where the model has no workflow for this request, with what has one. */
  choose(model: string, capability: CapabilityId, input: object): Promise<Workflow>;
  /**
   * Throws invalid_request for values beyond what workflow or server allow, naming the field; model_not_found where the server
   * lacks a file, naming it and the call that gets it; not_supported where it lacks a node class, naming the extension.
   */
  bind(workflow: Workflow, input: object, files: UploadedFiles, info: ObjectInfo, prefix: string): BoundGraph;
  /** Estimated bytes of VRAM. */
  footprint(model: string): number;
  /** The one line that gets what a model lacks. */
  pullHint(model: string): string | undefined;
}
