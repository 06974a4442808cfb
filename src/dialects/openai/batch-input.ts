// The file of a batch → its jobs, or what is wrong with it, line by line.
import { z } from 'zod';
import { GatewayError, toGatewayError } from '../../error.ts';
import { toInput } from '../../http/body.ts';
import type { Submission } from '../../jobs/draft.ts';
import { endpoints, type AnswerNote, type EndpointPath } from './endpoints.ts';
import { toLines, type Line } from './lines.ts';

export const batchError = z.object({
  code: z.string(),
  message: z.string(),
  param: z.string().nullable(),
  line: z.int().nullable().describe('Of the input file, from 1.'),
});
export type BatchError = z.output<typeof batchError>;

/** What a job of a batch remembers of its line. */
export interface LineNote extends AnswerNote {
  custom_id: string;
}

export interface BatchInput {
  /** Empty where there are errors. */
  submissions: Submission[];
  errors: BatchError[];
}

export interface ReadOptions {
  owner: string;
  batch: string;
  endpoint: EndpointPath;
  /** Bytes of one line. */
  maxLine: number;
  /** Throws model_not_found, not_supported for a model that cannot answer. */
  checkModel(model: string | undefined): Promise<unknown>;
}

export const MAX_LINES = 50_000;
/** After so many it is clear that the file is not right, and the rest is not looked at. */
const MAX_ERRORS = 100;

const line = z.object({
  custom_id: z.string().min(1).max(512),
  method: z.literal('POST'),
  url: z.string(),
  body: z.record(z.string(), z.unknown()),
});

/** Reads a file once, from end to end, unless it is wrong. */
export async function readBatch(source: AsyncIterable<Uint8Array>, options: ReadOptions): Promise<BatchInput> {
  const submissions: Submission[] = [];
  const errors: BatchError[] = [];
  const seen = new Set<string>();
  const models = createModelCheck(options.checkModel);
  let count = 0;
  for await (const one of toLines(source, options.maxLine)) {
    if (++count > MAX_LINES) {
      errors.push(toError('too_many_tasks', `A batch has at most ${MAX_LINES} lines.`));
      break;
    }
    try {
      const { custom_id, input, note } = toRequest(one, options);
      if (seen.has(custom_id))
        throw new LineError('duplicate_custom_id', 'Another line has this custom_id.', 'custom_id');
      seen.add(custom_id);
      const { capability } = endpoints[options.endpoint];
      await models(input['model'] as string | undefined);
      submissions.push({
        owner: options.owner,
        capability,
        input,
        options: { priority: 'background' },
        batch: { id: options.batch, index: submissions.length },
        dialect: { openai: { custom_id, ...note } satisfies LineNote },
      });
    } catch (thrown) {
      errors.push(describe(thrown, one.number));
      if (errors.length >= MAX_ERRORS) break;
    }
  }
  if (count === 0) errors.push(toError('empty_file', 'The input file has no lines.'));
  return { submissions: errors.length === 0 ? submissions : [], errors };
}

function toRequest({ text }: Line, { endpoint, maxLine }: ReadOptions) {
  if (text === undefined) {
    throw new LineError('invalid_json_line', `This line is not UTF-8 text of at most ${maxLine} bytes.`);
  }
  const { custom_id, url, body } = toInput(line, toJson(text));
  if (url !== endpoint) {
    throw new LineError('url_mismatch', `The url of this line is not the endpoint of the batch, ${endpoint}.`, 'url');
  }
  try {
    return { custom_id, ...endpoints[endpoint].toInput(body) };
  } catch (thrown) {
    const error = toGatewayError(thrown);
    if (error.code === 'internal') throw thrown;
    throw new LineError(error.code, error.message, error.param === undefined ? 'body' : `body.${error.param}`);
  }
}

function toJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Told below, like any other value that is no object.
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new LineError('invalid_json_line', 'This line is not a JSON object.');
}

/** Asks once for each model, however many lines name it. */
function createModelCheck(check: ReadOptions['checkModel']): (model: string | undefined) => Promise<void> {
  const known = new Map<string | undefined, LineError | undefined>();
  return async (model) => {
    if (!known.has(model)) {
      const error = await check(model).then(
        () => undefined,
        (thrown: unknown) => toGatewayError(thrown),
      );
      // A runtime that is down may be up when the job's turn comes.
      const fatal = error && (error.code === 'model_not_found' || error.code === 'not_supported');
      known.set(model, fatal ? new LineError(error.code, error.message, 'body.model') : undefined);
    }
    const found = known.get(model);
    if (found) throw found;
  };
}

/** What is wrong with one line; it never leaves this file. */
class LineError extends Error {
  readonly code: string;
  readonly param: string | null;

  constructor(code: string, message: string, param: string | null = null) {
    super(message);
    this.code = code;
    this.param = param;
  }
}

function describe(thrown: unknown, number: number): BatchError {
  if (thrown instanceof LineError)
    return { ...toError(thrown.code, thrown.message), param: thrown.param, line: number };
  if (thrown instanceof GatewayError) {
    return { ...toError(thrown.code, thrown.message), param: thrown.param ?? null, line: number };
  }
  throw thrown;
}

function toError(code: string, message: string): BatchError {
  return { code, message, param: null, line: null };
}
