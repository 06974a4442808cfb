// What goes wrong in ComfyUI, in words for whoever asked: which node, which input, what to do about it.
import { GatewayError } from '../../../src/error.ts';
import { errorText } from '../../../src/upstream.ts';
import type { Upstream } from '../../../src/upstream.ts';
import type { Answer } from './client.ts';
import { toObject } from './wire.ts';
import type { ExecutionError, HistoryEntry, NodeErrors, Refusal } from './wire.ts';

const MODEL_FILE = /\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx)$/i;
const OUT_OF_MEMORY = /OutOfMemory|out of memory|not enough memory|_ALLOC_FAILED/i;
const MAX_TEXT = 400;
/** Of the errors of a refusal that are told. */
const MAX_TOLD = 3;

/** Which input a refusal is about, as `refusedInput` finds it. */
interface Refused {
  node: string;
  class: string;
  input: string | undefined;
  type: string;
  text: string;
  value: unknown;
}

export interface Asked {
  source: string;
  model: string;
  pullHint: string | undefined;
}

export function cancelled(): GatewayError {
  return new GatewayError('client_closed', 'The request was cancelled.');
}

/** The prompt was not taken, or not all of it. */
export function toRefusal(upstream: Upstream, { status, body }: Answer, asked: Asked): GatewayError {
  const refusal = toRefusalBody(body);
  if (!refusal) return upstream.failure(status === 200 || status === 404 ? 502 : status, status === 500 ? '' : body);
  const { source } = asked;
  const missing = missingClass(refusal);
  if (missing !== undefined) {
    return new GatewayError('not_supported', `${source} lacks the node ${missing} that ${asked.model} needs.`, {
      source,
      retry: false,
      hint: asked.pullHint ?? `Install the extension that brings ${missing}, and start ${source} again.`,
    });
  }
  const inputs = toRefused(refusal.node_errors ?? {});
  const file = inputs.find(({ type, value }) => type === 'value_not_in_list' && isModelFile(value));
  if (file) return missingFile(file, asked);
  if (inputs.length > 0) {
    const told = inputs.slice(0, MAX_TOLD).map((one) => `node ${one.node} (${one.class})${toInput(one)}: ${one.text}`);
    const more = inputs.length > MAX_TOLD ? `; and ${inputs.length - MAX_TOLD} more` : '';
    return new GatewayError('invalid_request', `${source} refuses the workflow: ${told.join('; ')}${more}.`, {
      source,
      retry: false,
    });
  }
  const { message = '', details = '' } =
    typeof refusal.error === 'string' ? { message: refusal.error } : (refusal.error ?? {});
  const text = clean([message, details].filter(Boolean).join(': ')) || 'it does not say why';
  return new GatewayError('invalid_request', `${source} refuses the workflow: ${text}.`, { source, retry: false });
}

/** Whether the server's lists have changed since they were read. */
export function isStale(body: string): boolean {
  return /"value_not_in_list"|"missing_node_type"/.test(body);
}

export function hasNodeErrors(body: string): boolean {
  return Object.keys(toRefusalBody(body)?.node_errors ?? {}).length > 0;
}

export function toExecutionFailure(error: ExecutionError, { source, model }: Omit<Asked, 'pullHint'>): GatewayError {
  const { node_id, node_type = 'a node', exception_message = '', exception_type = '' } = error;
  if (OUT_OF_MEMORY.test(`${exception_type} ${exception_message}`)) {
    return new GatewayError('insufficient_vram', `${source} ran out of memory in ${node_type}.`, {
      source,
      retryAfter: 10,
      retry: false,
      hint: `Ask for fewer or smaller pictures, or start ${source} with --lowvram.`,
    });
  }
  const where = node_id === undefined ? node_type : `${node_type} (node ${clean(node_id)})`;
  const what = clean(firstLine(exception_message)) || exception_type.split('.').at(-1) || 'it does not say why';
  return new GatewayError('upstream_error', `${source} failed in ${where}: ${what}`, {
    source,
    retry: false,
    hint: /deserializ|header too|invalid load key|corrupt/i.test(exception_message)
      ? `A model file of ${model} is damaged; fetch it again.`
      : `The log of ${source} has the details.`,
  });
}

/** The failure that the history of a prompt tells; undefined where it succeeded. */
export function toEndFailure(entry: HistoryEntry, asked: Omit<Asked, 'pullHint'>): GatewayError | undefined {
  const { status_str, messages = [] } = entry.status ?? {};
  if (status_str !== 'error') return undefined;
  for (const [type, data] of messages) {
    if (type === 'execution_error') return toExecutionFailure(toObject(data) as ExecutionError, asked);
    if (type === 'execution_interrupted') return interrupted(asked.source);
  }
  return toExecutionFailure({}, asked);
}

export function interrupted(source: string): GatewayError {
  // Whoever stopped it there meant it: it is not begun again by itself.
  return new GatewayError('cancelled', `The work was stopped on ${source} by someone else.`, {
    source,
    hint: 'Ask again, if that was not meant.',
  });
}

/** `away`: the server was not to be reached meanwhile. */
export function lost(source: string, away: boolean): GatewayError {
  const why = away ? `${source} was started again` : `someone took it out of the queue of ${source}`;
  return new GatewayError('upstream_terminated', `The work was lost before it was finished: ${why}.`, {
    source,
    hint: 'Ask again.',
  });
}

export function gone(source: string, cause: unknown): GatewayError {
  return new GatewayError('upstream_terminated', `${source} went away while it worked.`, {
    source,
    cause,
    hint: `Start ${source} again; its log may say why it ended.`,
  });
}

export function withoutFiles(source: string): GatewayError {
  return new GatewayError('upstream_error', `${source} finished the workflow, but no file of this request came out.`, {
    source,
    retry: false,
    hint: 'A workflow needs a node that saves what it makes, such as SaveImage.',
  });
}

/** One line without paths and addresses. */
export function clean(text: string): string {
  return errorText(JSON.stringify({ error: text }))
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, MAX_TEXT);
}

function toRefusalBody(body: string): Refusal | undefined {
  try {
    const value = toObject(JSON.parse(body)) as Refusal;
    return value.error === undefined && value.node_errors === undefined ? undefined : value;
  } catch {
    return undefined;
  }
}

/** Servers before 2026 say it in a sentence only. */
function missingClass({ error }: Refusal): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const known = error.extra_info?.['class_type'];
  if (error.type === 'missing_node_type' && typeof known === 'string') return clean(known);
  return /node (\S+) does not exist/i.exec(error.message ?? '')?.[1];
}

function toRefused(nodes: Record<string, NodeErrors>): Refused[] {
  return Object.entries(nodes).flatMap(([node, { errors = [], class_type = '' }]) =>
    errors.map(({ type = '', message = '', details = '', extra_info = {} }) => {
      const input = extra_info['input_name'];
      // Lists of everything that would be allowed are no part of a sentence.
      const detail = type === 'value_not_in_list' ? `${JSON.stringify(extra_info['received_value'])}` : details;
      return {
        node: clean(node),
        class: clean(class_type),
        input: typeof input === 'string' ? clean(input) : undefined,
        type,
        text: clean(detail === '' || detail === input ? message : `${message}: ${detail}`),
        value: extra_info['received_value'],
      };
    }),
  );
}

function toInput({ input }: Refused): string {
  return input === undefined ? '' : `, input ${input}`;
}

function isModelFile(value: unknown): boolean {
  return typeof value === 'string' && MODEL_FILE.test(value);
}

function missingFile({ node, class: kind, input, value }: Refused, { source, model, pullHint }: Asked): GatewayError {
  const where = `node ${node}, ${kind}.${input ?? ''}`;
  return new GatewayError('model_not_found', `${source} lacks the file ${clean(String(value))} (${where}).`, {
    source,
    retry: false,
    hint: pullHint ?? `Put the file into the models folder of ${source}, or ask for another model than ${model}.`,
  });
}

function firstLine(text: string): string {
  return (
    text
      .split('\n')
      .map((line) => line.trim())
      .find((line) => line !== '') ?? ''
  );
}
