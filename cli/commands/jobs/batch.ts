// `jobs batch`: many inputs of one capability, one id.
import type { BatchView } from '../../../src/jobs/batches.ts';
import { defineLeaf, type Invocation } from '../../command.ts';
import { jobFlags, requestFlags, toJobOptions, toRequestHeaders } from '../../detach.ts';
import { usageError } from '../../exit.ts';
import { readJson, readText } from '../../flags.ts';
import { readStdin } from '../../stdin.ts';
import { askJson, withTarget } from '../../target.ts';

export const batch = defineLeaf({
  path: 'jobs batch',
  summary: 'Start a job for each line of a file',
  details: 'Each line is the JSON object that the capability takes. Prints the id of the batch, for jobs wait.',
  argument: { hint: 'FILE|-', description: 'The file of JSON lines; - is standard input.', max: 1 },
  flags: {
    capability: { type: 'string', alias: 'c', valueHint: 'NAME', description: 'Such as text.generate. (required)' },
    model: {
      type: 'string',
      alias: 'm',
      valueHint: 'MODEL',
      description: 'For lines that name none.',
      completes: 'model',
    },
    defaults: {
      type: 'string',
      valueHint: 'JSON|@FILE',
      description: 'Fields for lines that do not have them.',
      read: readJson,
      completes: 'file',
    },
    ...jobFlags,
    'idempotency-key': requestFlags['idempotency-key']!,
  },
  async run(invocation) {
    const { out, flags } = invocation;
    const { capability, model } = flags;
    if (capability === undefined) throw usageError('--capability is needed.', 'Such as --capability text.generate');
    const inputs = toInputs(await readSource(invocation));
    const defaults = { ...(flags['defaults'] as object | undefined), ...(model === undefined ? {} : { model }) };
    const job = toJobOptions(flags);
    await withTarget(invocation, async (target) => {
      const view = await askJson<BatchView>(target, {
        method: 'POST',
        path: '/jobs/batch',
        headers: toRequestHeaders(flags),
        body: JSON.stringify({
          capability,
          inputs,
          ...(Object.keys(defaults).length > 0 ? { defaults } : {}),
          ...(job ? { job } : {}),
        }),
      });
      if (flags.json) out.json(view);
      else out.line(view.id);
      const kept = target.url === undefined ? ' No gateway is running: they are kept and start with one.' : '';
      out.note(`${view.total} jobs.${kept} Wait for them: hono-ai jobs wait ${view.id}`);
    });
  },
});

async function readSource(invocation: Invocation): Promise<string> {
  const { words, io } = invocation;
  const [file] = words;
  if (file !== undefined && file !== '-') {
    try {
      return readText(file);
    } catch (error) {
      throw usageError(`FILE must be ${(error as Error).message}.`);
    }
  }
  if (file === undefined && io.stdin.isTTY) throw usageError('jobs batch needs FILE, or - for standard input.');
  return readStdin(invocation);
}

function toInputs(text: string): unknown[] {
  const inputs = text.split('\n').flatMap((line, index) => {
    if (line.trim() === '') return [];
    try {
      const input: unknown = JSON.parse(line);
      if (typeof input === 'object' && input !== null && !Array.isArray(input)) return [input];
    } catch {
      // Told below, as for JSON that is no object.
    }
    throw usageError(`Line ${index + 1} is not a JSON object.`);
  });
  if (inputs.length === 0) throw usageError('There is no line in it.');
  return inputs;
}
