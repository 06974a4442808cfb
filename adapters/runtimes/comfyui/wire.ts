// ComfyUI's wire: what it answers over HTTP, and what it says on its websocket, in text and in binary frames.

/** A file that a node made, as history names it. */
export interface OutputFile {
  filename: string;
  /** Below the folder of its type, with forward slashes; empty for the folder itself. */
  subfolder: string;
  /** `output` is kept; `temp` is gone when the server starts again. */
  type: string;
}

export interface ExecutionError {
  node_id?: string;
  node_type?: string;
  exception_message?: string;
  exception_type?: string;
}

/** What is remembered of a prompt that has ended. */
export interface HistoryEntry {
  outputs?: Record<string, Record<string, unknown> | null>;
  status?: {
    status_str?: string;
    completed?: boolean;
    messages?: [type: string, data: Record<string, unknown>][];
  } | null;
}

/** Ids of prompts; `pending` in the order in which they will run. */
export interface Queue {
  running: string[];
  pending: string[];
}

export interface SystemStats {
  system?: { comfyui_version?: string };
  devices?: { type?: string; vram_total?: number; torch_vram_total?: number }[];
}

/** Why a prompt was refused. */
export interface Refusal {
  error?: { type?: string; message?: string; details?: string; extra_info?: Record<string, unknown> } | string;
  node_errors?: Record<string, NodeErrors>;
}

export interface NodeErrors {
  errors?: { type?: string; message?: string; details?: string; extra_info?: Record<string, unknown> }[];
  class_type?: string;
}

export interface NodeProgress {
  value: number;
  max: number;
  state: 'pending' | 'running' | 'finished' | 'error';
}

/** `id` is that of a prompt. */
export type Message =
  /** The queue has changed; said to everybody. */
  | { type: 'status' }
  | { type: 'start'; id: string }
  /** Nodes whose results are still known. */
  | { type: 'cached'; id: string; nodes: string[] }
  /** Where every node stands that has begun. */
  | { type: 'state'; id: string; nodes: Record<string, NodeProgress> }
  | { type: 'step'; id: string; node: string; value: number; max: number }
  /** A node begins; null is the end of the prompt, however it went. */
  | { type: 'node'; id: string; node: string | null }
  | { type: 'executed'; id: string; node: string }
  | { type: 'success'; id: string }
  | { type: 'error'; id: string; error: ExecutionError }
  | { type: 'interrupted'; id: string }
  /** Without an id it is of whatever runs. */
  | { type: 'preview'; id: string | undefined; media_type: string; bytes: Uint8Array<ArrayBuffer> }
  | { type: 'text'; text: string };

/** Undefined for what is not JSON, or of no use here. */
export function parseText(text: string): Message | undefined {
  const { type, data } = toObject(parse(text));
  const told = toObject(data);
  if (type === 'status') return { type };
  const id = told['prompt_id'];
  if (typeof id !== 'string') return undefined;
  const node = told['node'];
  switch (type) {
    case 'execution_start':
      return { type: 'start', id };
    case 'execution_cached':
      return { type: 'cached', id, nodes: Array.isArray(told['nodes']) ? told['nodes'].map(String) : [] };
    case 'progress_state':
      return { type: 'state', id, nodes: toNodes(told['nodes']) };
    case 'progress': {
      const { value, max } = told;
      const usable = typeof node === 'string' && typeof value === 'number' && typeof max === 'number';
      return usable ? { type: 'step', id, node, value, max } : undefined;
    }
    case 'executing':
      return { type: 'node', id, node: typeof node === 'string' ? node : null };
    case 'executed':
      return typeof node === 'string' ? { type, id, node } : undefined;
    case 'execution_success':
      return { type: 'success', id };
    case 'execution_error':
      return { type: 'error', id, error: told as ExecutionError };
    case 'execution_interrupted':
      return { type: 'interrupted', id };
    default:
      return undefined;
  }
}

/** Undefined for frames of other layouts: extensions send their own under the same numbers. */
export function parseBinary(frame: Uint8Array<ArrayBuffer>): Message | undefined {
  if (frame.byteLength < 8) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const kind = view.getUint32(0);
  if (kind === 1) return toPreview(frame.subarray(8), undefined);
  if (kind !== 3 && kind !== 4) return undefined;
  const length = view.getUint32(4);
  if (length > frame.byteLength - 8) return undefined;
  const head = new TextDecoder().decode(frame.subarray(8, 8 + length));
  const rest = frame.subarray(8 + length);
  if (kind === 3) return { type: 'text', text: new TextDecoder().decode(rest) };
  const { prompt_id: id } = toObject(parse(head));
  return typeof id === 'string' ? toPreview(rest, id) : undefined;
}

/** Queue entries are `[number, id, …]`; the server lists those that wait in no particular order. */
export function toQueue(reply: unknown): Queue {
  const { queue_running, queue_pending } = toObject(reply);
  const read = (list: unknown) =>
    (Array.isArray(list) ? list : [])
      .filter((entry): entry is unknown[] => Array.isArray(entry))
      .map((entry) => ({ number: Number(entry[0]), id: String(entry[1]) }))
      .toSorted((a, b) => a.number - b.number)
      .map(({ id }) => id);
  return { running: read(queue_running), pending: read(queue_pending) };
}

export function toObject(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** Its bytes decide: a frame of another layout is no picture where one should be. */
function toPreview(bytes: Uint8Array<ArrayBuffer>, id: string | undefined): Message | undefined {
  const [a, b, c, d] = bytes;
  if (a === 0xff && b === 0xd8 && c === 0xff) return { type: 'preview', id, media_type: 'image/jpeg', bytes };
  if (a === 0x89 && b === 0x50 && c === 0x4e && d === 0x47)
    return { type: 'preview', id, media_type: 'image/png', bytes };
  return undefined;
}

function toNodes(value: unknown): Record<string, NodeProgress> {
  const nodes: Record<string, NodeProgress> = {};
  for (const [id, told] of Object.entries(toObject(value))) {
    const { value: done, max, state } = toObject(told);
    if (typeof done !== 'number' || typeof max !== 'number') continue;
    nodes[id] = { value: done, max, state: state as NodeProgress['state'] };
  }
  return nodes;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
