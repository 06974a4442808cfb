// What a server says of its node classes, in one form: its own has changed over the years.
import { isRecord } from './graph.ts';
import type { NodeInfo, ObjectInfo } from './workflow.ts';

export type InputSpec =
  | { kind: 'choice'; options: string[]; upload: boolean; fallback: unknown }
  /** Each option brings inputs of its own, named after a dot. */
  | { kind: 'dynamic'; options: Map<string, Inputs>; fallback: unknown }
  | { kind: 'number'; whole: boolean; min: number; max: number; fallback: unknown }
  | { kind: 'text'; fallback: unknown }
  | { kind: 'flag'; fallback: unknown }
  /** Comes from another node; `type` as the server names it. */
  | { kind: 'link'; type: string };

export interface Inputs {
  required: Record<string, unknown>;
  optional: Record<string, unknown>;
}

/** undefined where the server has no such class. */
export function findClass(info: ObjectInfo, name: string): NodeInfo | undefined {
  return Object.hasOwn(info, name) ? info[name] : undefined;
}

export function toInputs({ input }: NodeInfo): Inputs {
  return { required: asRecord(input?.required), optional: asRecord(input?.optional) };
}

export function findInput(inputs: Inputs, name: string): InputSpec | undefined {
  for (const section of [inputs.required, inputs.optional]) {
    if (Object.hasOwn(section, name)) return toSpec(section[name]);
  }
  return undefined;
}

/** Lists of words come bare or as COMBO; numbers may lack their limits. */
export function toSpec(declared: unknown): InputSpec {
  const [type, options] = Array.isArray(declared) ? (declared as unknown[]) : [declared];
  const about = asRecord(options);
  const fallback = about['default'];
  if (Array.isArray(type)) return { kind: 'choice', options: type.map(String), upload: isUpload(about), fallback };
  if (type === 'COMBO') {
    const listed = Array.isArray(about['options']) ? about['options'].map(String) : [];
    return { kind: 'choice', options: listed, upload: isUpload(about), fallback };
  }
  if (type === 'COMFY_DYNAMICCOMBO_V3') return { kind: 'dynamic', options: toOptions(about['options']), fallback };
  if (type === 'INT' || type === 'FLOAT') {
    const { min = -Infinity, max = Infinity } = about as { min?: number; max?: number };
    return { kind: 'number', whole: type === 'INT', min, max, fallback };
  }
  if (type === 'STRING') return { kind: 'text', fallback };
  if (type === 'BOOLEAN') return { kind: 'flag', fallback };
  return { kind: 'link', type: typeof type === 'string' ? type : '*' };
}

/** The type of an output as a link sees it; undefined where the class has no such output. */
export function outputType({ output = [] }: NodeInfo, index: number): string | undefined {
  if (index < 0 || index >= output.length) return undefined;
  const type = output[index];
  return typeof type === 'string' ? type : '*';
}

/** Types may be several, parted by commas; * is any, and what the server makes up as it goes is not for us to judge. */
export function fits(given: string, wanted: string): boolean {
  if (given === '*' || wanted === '*' || given.startsWith('COMFY_') || wanted.startsWith('COMFY_')) return true;
  const takes = new Set(wanted.split(',').map((type) => type.trim()));
  return given.split(',').some((type) => takes.has(type.trim()));
}

/** What a link into an input of this kind must carry. */
export function linkType(spec: InputSpec): string {
  if (spec.kind === 'link') return spec.type;
  if (spec.kind === 'number') return spec.whole ? 'INT' : 'FLOAT';
  if (spec.kind === 'text') return 'STRING';
  return spec.kind === 'flag' ? 'BOOLEAN' : '*';
}

function toOptions(listed: unknown): Map<string, Inputs> {
  const options = new Map<string, Inputs>();
  for (const option of Array.isArray(listed) ? listed : []) {
    const { key, inputs } = asRecord(option);
    if (typeof key !== 'string') continue;
    const { required, optional } = asRecord(inputs);
    options.set(key, { required: asRecord(required), optional: asRecord(optional) });
  }
  return options;
}

/** Its list is what was uploaded so far. */
function isUpload(about: Record<string, unknown>): boolean {
  return Object.entries(about).some(([name, value]) => name.endsWith('_upload') && value === true);
}

function asRecord(value: unknown): Record<string, unknown> {
  return isRecord(value) ? value : {};
}
