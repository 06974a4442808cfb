// Runs ONNX language and embedding models inside a worker.
import type { TokenLogprob } from '../../../src/capabilities/text/fields.ts';
import { GatewayError } from '../../../src/error.ts';
import type { Library } from './engine.ts';
import { createReader } from './reader.ts';
import { type Choice, createSampler, type Scored, scoreToken } from './sampler.ts';
import type { Embedded, EmbedTask, Generated, GenerateTask, TextFiles } from './wire.ts';

export interface Control {
  cancelled(): boolean;
  chunk(text: string, logprobs: TokenLogprob[] | undefined): void;
  warn(warning: string): void;
}

type OnnxFiles = Extract<TextFiles, { format: 'onnx' }>;
type Tokenizer = InstanceType<Library['PreTrainedTokenizer']>;
type CausalModel = Awaited<ReturnType<Library['AutoModelForCausalLM']['from_pretrained']>>;

/** No token of any vocabulary in use stands for more characters; longer texts need not be tokenised to be refused. */
const MAX_TOKEN_CHARACTERS = 128;

export interface LoadedOnnx {
  generate(task: GenerateTask, control: Control): Promise<Generated>;
  embed(task: EmbedTask, control: Control): Promise<Embedded>;
  dispose(): Promise<unknown>;
}

export async function loadOnnx(library: Library, files: OnnxFiles, kind: 'generate' | 'embed'): Promise<LoadedOnnx> {
  const tokenizer = await library.AutoTokenizer.from_pretrained(files.dir);
  const loader = kind === 'generate' ? library.AutoModelForCausalLM : library.AutoModel;
  const model = (await loader.from_pretrained(files.dir, {
    dtype: files.dtype,
    device: 'auto',
    model_file_name: files.file,
  })) as CausalModel;
  return {
    generate: (task, control) => generate(library, tokenizer, model, task, control),
    embed: (task, control) => embed(library, tokenizer, model, task, control),
    dispose: () => model.dispose(),
  };
}

async function generate(
  library: Library,
  tokenizer: Tokenizer,
  model: CausalModel,
  task: GenerateTask,
  control: Control,
): Promise<Generated> {
  const prompt = encodePrompt(tokenizer, task);
  const room = task.model.context - prompt.length;
  if (room < 0 || (room === 0 && task.maxTokens > 0)) throw tooLong(task, prompt.length);
  const limit = Math.min(task.maxTokens, room);
  const vocabulary = createVocabulary(tokenizer);
  const scored: TokenLogprob[] = [];
  let text = '';
  const show = (piece: string, logprobs: TokenLogprob[]) => {
    text += piece;
    scored.push(...logprobs);
    if (piece) control.chunk(piece, task.logprobs === undefined ? undefined : logprobs);
  };
  if (task.echo) {
    const echoed = task.logprobs === undefined ? [] : await scorePrompt(library, model, prompt, task.logprobs);
    show(task.prompt as string, echoed.map(vocabulary.toLogprob));
  }

  const done = { finish: 'length' as Generated['finish'], completionTokens: 0 };
  if (limit > 0 && !control.cancelled()) {
    const reader = createReader(vocabulary.decode, prompt, task.stop);
    const ends = endTokens(tokenizer, model);
    await takeTokens(library, model, prompt, limit, task, (choice) => {
      if (ends.has(choice.id)) {
        done.finish = 'stop';
        return false;
      }
      done.completionTokens++;
      const piece = reader.push(choice.id, task.logprobs === undefined ? undefined : vocabulary.toLogprob(choice));
      show(piece.text, piece.logprobs);
      if (reader.stopped) done.finish = 'stop';
      return !reader.stopped && !control.cancelled();
    });
    const rest = reader.end();
    show(rest.text, rest.logprobs);
  }
  return { text, ...done, promptTokens: prompt.length, logprobs: task.logprobs === undefined ? undefined : scored };
}

/** Generates up to `limit` tokens, as long as `take` wants another. The library runs the model; every choice is ours. */
async function takeTokens(
  library: Library,
  model: CausalModel,
  prompt: number[],
  limit: number,
  task: GenerateTask,
  take: (choice: Choice) => boolean,
): Promise<void> {
  const choose = createSampler(task.sampling, prompt.length);
  let choice: Choice = { id: 0, logprob: 0, top: [] };
  const sample = (ids: bigint[][], logits: { data: Float32Array }) => {
    choice = choose(logits.data, ids[0]!, task.logprobs);
    // The library then takes the largest: exactly this one.
    logits.data.fill(-Infinity);
    logits.data[choice.id] = 0;
    return logits;
  };
  await model.generate({
    ...toInputs(library, prompt),
    max_new_tokens: limit,
    do_sample: false,
    num_beams: 1,
    repetition_penalty: 1,
    no_repeat_ngram_size: 0,
    min_length: 0,
    logits_processor: [sample],
    stopping_criteria: [() => [!take(choice)]],
  } as unknown as Parameters<CausalModel['generate']>[0]);
}

/** One vector per text, each computed alone: in a batch, quantised models give a text another vector beside other texts. */
async function embed(
  library: Library,
  tokenizer: Tokenizer,
  model: CausalModel,
  task: EmbedTask,
  control: Control,
): Promise<Embedded> {
  const embeddings: number[][] = [];
  let promptTokens = 0;
  for (const [index, text] of task.input.entries()) {
    if (control.cancelled()) break;
    const ids = tokenizer.encode(text.slice(0, task.model.context * MAX_TOKEN_CHARACTERS));
    const kept = ids.length > task.model.context ? [...ids.slice(0, task.model.context - 1), ids.at(-1)!] : ids;
    if (kept !== ids)
      control.warn(`Text ${index + 1} was cut to the ${task.model.context} tokens that ${task.model.id} reads.`);
    promptTokens += kept.length;
    const inputs = toInputs(library, kept);
    const length = kept.length;
    const outputs = (await model({
      ...inputs,
      token_type_ids: new library.Tensor('int64', new BigInt64Array(length), [1, length]),
    })) as Record<string, InstanceType<Library['Tensor']> | undefined>;
    const pooled =
      outputs['sentence_embedding'] ?? library.mean_pooling(hiddenState(outputs, task), inputs.attention_mask);
    embeddings.push(Array.from(pooled.normalize(2, -1).data as Float32Array));
  }
  return { embeddings, promptTokens };
}

function hiddenState(outputs: Record<string, InstanceType<Library['Tensor']> | undefined>, task: EmbedTask) {
  const found = outputs['last_hidden_state'] ?? outputs['token_embeddings'];
  if (found) return found;
  throw new GatewayError('not_supported', `${task.model.id} gives no sentence vectors.`, { source: 'embedded' });
}

function encodePrompt(tokenizer: Tokenizer, { prompt, model }: GenerateTask): number[] {
  const raw = typeof prompt === 'string';
  const text = raw ? prompt : applyTemplate(tokenizer, prompt, model.id);
  if (text.length > model.context * MAX_TOKEN_CHARACTERS) {
    throw new GatewayError(
      'context_length_exceeded',
      `The prompt is longer than the ${model.context} tokens of ${model.id}.`,
      {
        source: 'embedded',
        hint: 'Shorten the prompt, or use a model with a longer context.',
      },
    );
  }
  // A chat template writes its own special tokens.
  const ids = tokenizer.encode(text, { add_special_tokens: raw });
  // Something must come first: a model cannot continue from nothing.
  if (ids.length === 0) ids.push(tokenizer.bos_token_id ?? tokenizer.eos_token_id ?? 0);
  return ids;
}

function applyTemplate(tokenizer: Tokenizer, messages: Exclude<GenerateTask['prompt'], string>, id: string): string {
  try {
    return tokenizer.apply_chat_template(messages as never, {
      tokenize: false,
      add_generation_prompt: true,
    }) as unknown as string;
  } catch (error) {
    throw new GatewayError('invalid_request', `The chat template of ${id} cannot take this conversation.`, {
      source: 'embedded',
      param: 'messages',
      hint: 'Use system, user and assistant messages in turn, ending with the user.',
      cause: error,
    });
  }
}

/** Log-probabilities of all prompt tokens but the first, which nothing precedes, by one forward pass. */
async function scorePrompt(
  library: Library,
  model: CausalModel,
  ids: number[],
  alternatives: number,
): Promise<Choice[]> {
  if (ids.length < 2) return [];
  const { logits } = (await model(toInputs(library, ids))) as { logits: InstanceType<Library['Tensor']> };
  const data = logits.to('float32').data as Float32Array;
  const width = logits.dims.at(-1)!;
  return ids.slice(1).map((id, at) => scoreToken(data.subarray(at * width, (at + 1) * width), id, alternatives));
}

function toInputs(library: Library, ids: number[]) {
  const dims = [1, ids.length];
  return {
    input_ids: new library.Tensor('int64', BigInt64Array.from(ids, BigInt), dims),
    attention_mask: new library.Tensor('int64', new BigInt64Array(ids.length).fill(1n), dims),
  };
}

function endTokens(tokenizer: Tokenizer, model: CausalModel): Set<number> {
  const configured = [model.generation_config?.eos_token_id, tokenizer.eos_token_id].flat();
  return new Set(configured.filter((id): id is number => typeof id === 'number'));
}

function createVocabulary(tokenizer: Tokenizer) {
  const decode = (ids: number[]) =>
    tokenizer.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  const toAlternative = ({ id, logprob }: Scored) => {
    const token = tokenizer.decode([id], { skip_special_tokens: false, clean_up_tokenization_spaces: false });
    // Half a character has no text of its own, and its bytes are the tokenizer's secret.
    const bytes = token.includes('\uFFFD') ? null : Array.from(new TextEncoder().encode(token));
    return { token, logprob, bytes };
  };
  return {
    decode,
    toLogprob: (choice: Choice): TokenLogprob => ({
      ...toAlternative(choice),
      top_logprobs: choice.top.map(toAlternative),
    }),
  };
}

function tooLong(task: GenerateTask, length: number): GatewayError {
  return new GatewayError(
    'context_length_exceeded',
    `The prompt has ${length} tokens; ${task.model.id} has room for ${task.model.context}, prompt and answer together.`,
    { source: 'embedded', hint: 'Shorten the prompt, or use a model with a longer context.' },
  );
}
