// Runs GGUF files through llama.cpp inside a worker, where the user has installed node-llama-cpp.
import { GatewayError } from '../../../src/error.ts';
import type { Control } from './onnx.ts';
import { createReader } from './reader.ts';
import type { Generated, GenerateTask, TextFiles, TemplateMessage } from './wire.ts';

/** The part of node-llama-cpp that is used here; the package is optional, so its own types may be absent. */
interface LlamaModule {
  getLlama(options: object): Promise<{ loadModel(options: { modelPath: string }): Promise<LlamaModel> }>;
  resolveChatWrapper(model: LlamaModel): ChatWrapper;
}
interface LlamaModel {
  readonly tokenizer: unknown;
  readonly trainContextSize: number;
  tokenize(text: string, special?: boolean): number[];
  detokenize(tokens: readonly number[], special?: boolean): string;
  createContext(options: { contextSize: number; threads: number }): Promise<{ getSequence(): LlamaSequence }>;
  dispose(): Promise<void>;
}
interface LlamaSequence {
  clearHistory(): Promise<void>;
  evaluate(tokens: number[], options: object): AsyncIterable<number>;
}
interface ChatWrapper {
  generateContextState(state: { chatHistory: object[] }): { contextText: { tokenize(tokenizer: unknown): number[] } };
}

/** Memory for a longer context would be taken at load, needed or not. */
const MAX_CONTEXT = 4096;

export async function loadGguf(files: Extract<TextFiles, { format: 'gguf' }>, threads: number) {
  const llama = await importLlama();
  const engine = await llama.getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    maxThreads: threads,
    logLevel: 'error',
    progressLogs: false,
  });
  const model = await engine.loadModel({ modelPath: files.path });
  const contextSize = Math.min(model.trainContextSize, MAX_CONTEXT);
  const context = await model.createContext({ contextSize, threads });
  const sequence = context.getSequence();

  async function generate(task: GenerateTask, control: Control): Promise<Generated> {
    const prompt =
      typeof task.prompt === 'string' ? model.tokenize(task.prompt) : tokenizeChat(llama, model, task.prompt);
    const room = contextSize - prompt.length;
    if (room < 1) {
      throw new GatewayError(
        'context_length_exceeded',
        `The prompt has ${prompt.length} tokens; ${files.id} has room for ${contextSize}, prompt and answer together.`,
        { source: 'embedded', hint: 'Shorten the prompt, or use a model with a longer context.' },
      );
    }
    if (task.logprobs !== undefined) control.warn('Log-probabilities are not available for GGUF models.');
    const limit = Math.min(task.maxTokens, room);
    const reader = createReader((ids) => model.detokenize(ids), prompt, task.stop);
    let text = '';
    let completionTokens = 0;
    let finish: Generated['finish'] = limit === 0 ? 'length' : 'stop';
    const show = (piece: string) => {
      text += piece;
      if (piece) control.chunk(piece, undefined);
    };
    if (task.echo) show(task.prompt as string);
    await sequence.clearHistory();
    if (limit > 0) {
      for await (const token of sequence.evaluate(
        prompt,
        toOptions(task, () => prompt),
      )) {
        completionTokens++;
        show(reader.push(token).text);
        if (reader.stopped || control.cancelled()) break;
        if (completionTokens >= limit) {
          finish = 'length';
          break;
        }
      }
    }
    show(reader.end().text);
    return { text, finish, promptTokens: prompt.length, completionTokens, logprobs: undefined };
  }

  return { generate, dispose: () => model.dispose() };
}

async function importLlama(): Promise<LlamaModule> {
  try {
    return (await import('node-llama-cpp' as string)) as LlamaModule;
  } catch (error) {
    throw new GatewayError(
      'model_unavailable',
      'GGUF models need the package node-llama-cpp, which is not installed.',
      {
        source: 'embedded',
        hint: 'npm i node-llama-cpp',
        cause: error,
      },
    );
  }
}

function tokenizeChat(llama: LlamaModule, model: LlamaModel, messages: TemplateMessage[]): number[] {
  const history: object[] = messages.map(({ role, content }) => {
    if (role === 'assistant') return { type: 'model', response: [content] };
    return { type: role === 'system' ? 'system' : 'user', text: content };
  });
  history.push({ type: 'model', response: [] });
  return llama
    .resolveChatWrapper(model)
    .generateContextState({ chatHistory: history })
    .contextText.tokenize(model.tokenizer);
}

function toOptions({ sampling }: GenerateTask, punishTokens: () => number[]) {
  const { repeatPenalty, presencePenalty, frequencyPenalty } = sampling;
  const penalties = repeatPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
  return {
    temperature: sampling.temperature,
    topK: sampling.topK,
    topP: sampling.topP,
    minP: sampling.minP,
    // llama.cpp takes 32 bits.
    seed: sampling.seed % 2 ** 32,
    ...(penalties && { repeatPenalty: { punishTokens, penalty: repeatPenalty, presencePenalty, frequencyPenalty } }),
  };
}
