// Traces: who asks for what and when, one JSON object a line.

export interface Row {
  /** Seconds since the trace began. */
  at: number;
  caller: string;
  capability: string;
  model: string;
  runtime: string;
  /** GB (of 10^9 bytes) that the model takes. */
  vram: number;
  /** Seconds that it takes to bring it to the card, with sending away what it replaces. */
  load: number;
  /** Seconds that it runs when it has the card's compute for itself. */
  run: number;
  class: Class;
  /** Runs of one model at the same time; the same in all rows of a runtime. */
  slots?: number;
}

export const CLASSES = ['interactive', 'normal', 'background'] as const;
export type Class = (typeof CLASSES)[number];

export interface Trace {
  name: string;
  /** In the order of arrival. */
  rows: readonly Row[];
}

/** The names that are understood, in any case and with or without `_`. */
const NAMES: Record<keyof Row, readonly string[]> = {
  at: ['at', 'arrival', 'time', 't'],
  caller: ['caller', 'user', 'owner'],
  capability: ['capability'],
  model: ['model'],
  runtime: ['runtime'],
  vram: ['vram', 'vramgb', 'gb'],
  load: ['load', 'loadtime', 'loads', 'loadseconds'],
  run: ['run', 'runs', 'runseconds', 'service'],
  class: ['class', 'priority'],
  slots: ['slots'],
};

const LIMIT = { at: 1e9, vram: 10_000, load: 1e6, run: 1e6, slots: 1000, name: 200 };

/** Throws an Error that names the file and the line. */
export function readTrace(text: string, name: string): Trace {
  const rows: Row[] = [];
  const slots = new Map<string, { slots: number; line: number }>();
  for (const [index, line] of text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .entries()) {
    if (line.trim() === '') continue;
    const fail = (why: string): never => {
      throw new Error(`${name}, line ${index + 1}: ${why}`);
    };
    const row = toRow(line, fail);
    rows.push(row);
    const before = slots.get(row.runtime);
    if (!before) slots.set(row.runtime, { slots: row.slots ?? 1, line: index + 1 });
    else if (before.slots !== (row.slots ?? 1)) {
      fail(
        `${row.runtime} has ${row.slots ?? 1} slots here and ${before.slots} in line ${before.line}; name another runtime`,
      );
    }
  }
  if (rows.length === 0) throw new Error(`${name} has no rows.`);
  return { name, rows: rows.toSorted((a, b) => a.at - b.at) };
}

function toRow(line: string, fail: (why: string) => never): Row {
  const given = toFields(line, fail);
  const number = (field: 'at' | 'vram' | 'load' | 'run' | 'slots', least: number): number => {
    const value = given.get(field);
    if (value === undefined) fail(`"${field}" is missing`);
    if (typeof value !== 'number' || !(value >= least) || value > LIMIT[field]) {
      fail(`"${field}" must be a number from ${least} to ${LIMIT[field]}`);
    }
    return value as number;
  };
  const text = (field: 'caller' | 'capability' | 'model' | 'runtime', fallback?: string): string => {
    const value = given.get(field) ?? fallback;
    if (value === undefined) fail(`"${field}" is missing`);
    if (typeof value !== 'string' || value === '' || value.length > LIMIT.name) fail(`"${field}" must be a short text`);
    return value as string;
  };
  const of = given.get('class') ?? 'interactive';
  if (!CLASSES.includes(of as Class)) fail(`"class" must be one of ${CLASSES.join(', ')}`);
  return {
    at: number('at', 0),
    caller: text('caller', 'anybody'),
    capability: text('capability', 'run'),
    model: text('model'),
    runtime: text('runtime', 'card'),
    vram: number('vram', 0.001),
    load: number('load', 0),
    run: number('run', 0),
    class: of as Class,
    ...(given.get('slots') === undefined ? {} : { slots: Math.floor(number('slots', 1)) }),
  };
}

function toFields(line: string, fail: (why: string) => never): Map<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return fail('this is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail('this is not a JSON object');
  const fields = new Map<string, unknown>();
  for (const [key, given] of Object.entries(value)) {
    const plain = key.toLowerCase().replaceAll('_', '');
    const isRunTime = plain === 'runtime' && typeof given === 'number';
    const name = isRunTime ? 'run' : Object.entries(NAMES).find(([, names]) => names.includes(plain))?.[0];
    if (name && !fields.has(name)) fields.set(name, given);
  }
  return fields;
}
