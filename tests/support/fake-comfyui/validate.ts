// What ComfyUI says of a prompt before it takes it, computed from what its node classes say of themselves.
import type { Disk } from './disk.ts';
import { choices } from './models.ts';
import type { FakeClass, FakeGraph, FakeObjectInfo } from './types.ts';

export interface Reason {
  type: string;
  message: string;
  details: string;
  extra_info: Record<string, unknown>;
}

export interface Verdict {
  error: Reason | undefined;
  /** Output nodes that will run; the others are ignored. */
  outputs: string[];
  nodeErrors: Record<string, { errors: Reason[]; dependent_outputs: string[]; class_type: string }>;
}

type Checked = Map<string, { valid: boolean; errors: Reason[] }>;

/** Values are converted in place (`8` → `8.0` is the same in JSON, `"8"` → `8` is not), as the real one does. */
export function validatePrompt(graph: FakeGraph, info: FakeObjectInfo, disk: Disk, partial?: string[]): Verdict {
  const refuse = (error: Reason): Verdict => ({ error, outputs: [], nodeErrors: {} });
  const outputs: string[] = [];
  for (const [id, node] of Object.entries(graph)) {
    const type = node?.class_type;
    if (typeof type !== 'string' || !Object.hasOwn(info, type)) return refuse(missingType(id, type, node?._meta));
    if (info[type]!.output_node === true && (!partial || partial.includes(id))) outputs.push(id);
  }
  if (outputs.length === 0) {
    return refuse({ type: 'prompt_no_outputs', message: 'Prompt has no outputs', details: '', extra_info: {} });
  }
  const checked: Checked = new Map();
  const good: string[] = [];
  const lines: string[] = [];
  const nodeErrors: Verdict['nodeErrors'] = {};
  for (const output of outputs) {
    const { valid, errors } = checkOutput(output, { graph, info, disk }, checked);
    if (valid) good.push(output);
    else {
      lines.push(...errors.map((error) => `${error.message}: ${error.details}`));
      for (const [id, { errors }] of checked) {
        if (errors.length === 0) continue;
        nodeErrors[id] ??= { errors, dependent_outputs: [], class_type: graph[id]!.class_type };
        nodeErrors[id].dependent_outputs.push(output);
      }
    }
  }
  if (good.length > 0) return { error: undefined, outputs: good, nodeErrors };
  const message = 'Prompt outputs failed validation';
  const error = { type: 'prompt_outputs_failed_validation', message, details: lines.join('\n'), extra_info: {} };
  return { error, outputs: [], nodeErrors };
}

/** A link to a node that is not there. */
class KeyError extends Error {}

function checkOutput(id: string, setting: Setting, checked: Checked): { valid: boolean; errors: Reason[] } {
  try {
    return checkNode(id, setting, checked);
  } catch (error) {
    if (!(error instanceof KeyError)) throw error;
    const extra = { exception_type: 'KeyError', traceback: [] };
    const errors = [reason('exception_during_validation', 'Exception when validating node', error.message, extra)];
    const result = { valid: false, errors };
    checked.set(id, result);
    return result;
  }
}

interface Setting {
  graph: FakeGraph;
  info: FakeObjectInfo;
  disk: Disk;
}

function checkNode(id: string, setting: Setting, checked: Checked): { valid: boolean; errors: Reason[] } {
  const known = checked.get(id);
  if (known) return known;
  const node = setting.graph[id]!;
  const type = setting.info[node.class_type]!;
  const errors: Reason[] = [];
  let valid = true;
  for (const [name, config, required] of inputsOf(type)) {
    if (!(name in node.inputs)) {
      if (required)
        errors.push(reason('required_input_missing', 'Required input is missing', name, { input_name: name }));
      continue;
    }
    if (Array.isArray(node.inputs[name])) {
      const found = checkLink(name, config, node.inputs[name], setting);
      if (found) errors.push(found);
      else if (!checkSource(String(node.inputs[name][0]), name, config, setting, checked)) valid = false;
    } else {
      const found = checkValue(name, config, node, setting.disk);
      if (found) errors.push(found);
    }
  }
  const result = { valid: valid && errors.length === 0, errors };
  checked.set(id, result);
  return result;
}

function checkSource(id: string, name: string, config: Config, setting: Setting, checked: Checked): boolean {
  try {
    return checkNode(id, setting, checked).valid;
  } catch (error) {
    if (!(error instanceof KeyError)) throw error;
    const extra = { input_name: name, input_config: config, exception_message: error.message };
    const found = reason('exception_during_inner_validation', 'Exception when validating inner node', error.message, {
      ...extra,
      exception_type: 'KeyError',
      traceback: [],
    });
    checked.set(id, { valid: false, errors: [found] });
    return false;
  }
}

function checkLink(name: string, config: Config, link: unknown[], { graph, info }: Setting): Reason | undefined {
  const extra = { input_name: name, input_config: config };
  if (link.length !== 2) {
    const message = 'Bad linked input, must be a length-2 list of [node_id, slot_index]';
    return reason('bad_linked_input', message, name, { ...extra, received_value: link });
  }
  const source = graph[String(link[0])];
  if (!source) throw new KeyError(`'${String(link[0])}'`);
  const received = String(info[source.class_type]!.output?.[Number(link[1])]);
  const wanted = Array.isArray(config[0]) ? 'COMBO' : String(config[0]);
  if (fits(received, wanted)) return undefined;
  const details = `${name}, received_type(${received}) mismatch input_type(${wanted})`;
  const message = 'Return type mismatch between linked nodes';
  return reason('return_type_mismatch', message, details, { ...extra, received_type: received, linked_node: link });
}

function checkValue(name: string, config: Config, node: FakeGraph[string], disk: Disk): Reason | undefined {
  const [kind, limits = {}] = config;
  const received = unwrap(node.inputs[name]);
  const extra = { input_name: name, input_config: config, received_value: received };
  const value = convert(kind, received);
  if (value === undefined) {
    const text = conversionError(kind, received);
    const message = `Failed to convert an input value to a ${String(kind)} value`;
    const shown = received === null ? 'None' : typeof received === 'object' ? '{}' : String(received);
    return reason('invalid_input_type', message, `${name}, ${shown}, ${text}`, {
      ...extra,
      exception_message: text,
    });
  }
  node.inputs[name] = value;
  // These classes check their own `image`: a list of the folder would be out of date.
  if (name === 'image' && node.class_type.startsWith('LoadImage')) {
    if (disk.named(String(value))) return undefined;
    const details = `${name} - Invalid image file: ${String(value)}`;
    return reason('custom_validation_failed', 'Custom validation failed for node', details, { input_name: name });
  }
  if (limits.min !== undefined && Number(value) < limits.min) {
    return reason('value_smaller_than_min', `Value ${String(value)} smaller than min of ${limits.min}`, name, extra);
  }
  if (limits.max !== undefined && Number(value) > limits.max) {
    return reason('value_bigger_than_max', `Value ${String(value)} bigger than max of ${limits.max}`, name, extra);
  }
  const list = choices(config) ?? dynamicKeys(config);
  if (!list || list.includes(value)) return undefined;
  const told = list.length > 20 ? `(list of length ${list.length})` : python(list);
  return reason('value_not_in_list', 'Value not in list', `${name}: '${String(value)}' not in ${told}`, {
    ...extra,
    input_config: list.length > 20 ? null : config,
  });
}

type Config = [kind: unknown, limits?: { min?: number; max?: number; options?: unknown[] }];

function inputsOf(type: FakeClass): [name: string, config: Config, required: boolean][] {
  const required = Object.entries(type.input?.required ?? {}).map(
    ([name, config]) => [name, config as Config, true] as const,
  );
  const optional = Object.entries(type.input?.optional ?? {}).map(
    ([name, config]) => [name, config as Config, false] as const,
  );
  return [...required, ...optional] as [string, Config, boolean][];
}

/** The keys of a combo whose choice brings inputs of its own. */
function dynamicKeys([kind, limits]: Config): unknown[] | undefined {
  if (kind !== 'COMFY_DYNAMICCOMBO_V3') return undefined;
  return limits?.options?.map((option) => (option as { key: unknown }).key);
}

function convert(kind: unknown, value: unknown): unknown {
  if (kind === 'INT' || kind === 'FLOAT') {
    const number = typeof value === 'string' && value.trim() === '' ? Number.NaN : Number(value);
    if (!Number.isFinite(number) || value === null || typeof value === 'object') return undefined;
    return kind === 'INT' ? Math.trunc(number) : number;
  }
  if (kind === 'STRING') return typeof value === 'string' ? value : JSON.stringify(value);
  if (kind === 'BOOLEAN') return Boolean(value);
  return value;
}

/** As Python words it. */
function conversionError(kind: unknown, value: unknown): string {
  const int = kind === 'INT';
  if (typeof value === 'object') {
    const type = value === null ? 'NoneType' : 'dict';
    return `${int ? 'int()' : 'float()'} argument must be a string, ${int ? 'a bytes-like object ' : ''}or a real number, not '${type}'`;
  }
  return int
    ? `invalid literal for int() with base 10: '${String(value)}'`
    : `could not convert string to float: '${String(value)}'`;
}

function unwrap(value: unknown): unknown {
  if (typeof value === 'object' && value !== null && '__value__' in value) return value.__value__;
  return value;
}

function fits(received: string, wanted: string): boolean {
  if (received === wanted || wanted === '*' || received === '*') return true;
  const types = new Set(wanted.split(',').map((type) => type.trim()));
  return received.split(',').every((type) => types.has(type.trim()));
}

function missingType(id: string, type: unknown, meta: object | undefined): Reason {
  const title = (meta as { title?: string } | undefined)?.title ?? type ?? id;
  if (typeof type !== 'string') {
    const message = `Node '${id}' is missing the class_type property. The workflow may be corrupted.`;
    const extra = { node_id: id, class_type: null, node_title: title };
    return reason('missing_node_type', message, `Node ID '#${id}'`, extra);
  }
  const message = `Node '${String(title)}' not found. The custom node may not be installed.`;
  return reason('missing_node_type', message, `Node ID '#${id}'`, { node_id: id, class_type: type, node_title: title });
}

function reason(type: string, message: string, details: string, extra_info: Record<string, unknown>): Reason {
  return { type, message, details, extra_info };
}

/** A list as Python writes it. */
function python(list: unknown[]): string {
  return `[${list.map((item) => (typeof item === 'string' ? `'${item}'` : String(item))).join(', ')}]`;
}
