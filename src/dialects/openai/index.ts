// The OpenAI dialect: its routes under /v1.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { textChat } from '../../capabilities/text/chat.ts';
import { textEmbed } from '../../capabilities/text/embed.ts';
import { textGenerate } from '../../capabilities/text/generate.ts';
import type { Chunk, Output } from '../../capabilities/index.ts';
import type { StatusEvent } from '../../event.ts';
import { readBytes, toInput, toJson } from '../../http/body.ts';
import { clientSignal, type AppContext, type AppEnv } from '../../http/context.ts';
import { idempotent } from '../../http/idempotency.ts';
import { describeRoute } from '../../http/openapi.ts';
import { respondEvents, respondJson, toErrorBody } from '../../http/respond.ts';
import { runHeaders, runJson } from '../../http/serve.ts';
import type { RunOptions } from '../../gateway.ts';
import type { Run } from '../../run.ts';
import { serveBatches } from './batches.ts';
import {
  chatCompletion,
  chatRequest,
  createChunkEncoder,
  forChoice,
  sumUsage,
  toChatCompletion,
  toChatInput,
  type Head,
} from './chat.ts';
import { completion, completionRequest, toCompletion, toCompletionChunk, toGenerateInputs } from './completions.ts';
import { embeddingList, embeddingRequest, toEmbeddingList, toEmbedInput } from './embeddings.ts';
import { serveFiles } from './files.ts';
import { serveImages } from './images.ts';
import { serveModelList } from './models.ts';
import { serveMusic } from './music.ts';
import { relay } from './relay.ts';
import { serveVideos } from './videos.ts';

type Json = Record<string, unknown>;

// Schemas are built once: building one costs more than the request that it checks.
const anyObject = z.record(z.string(), z.unknown());
const countOf = z.object({ n: z.int().min(1).max(8) });

export function serveOpenAI(app: OpenAPIHono<AppEnv>): void {
  const tag = 'openai';
  const streams = true;
  describeRoute(app, {
    method: 'post',
    path: '/v1/chat/completions',
    tag,
    summary: 'Chat completions',
    input: chatRequest,
    output: chatCompletion,
    streams,
  });
  app.post('/v1/chat/completions', idempotent(chatCompletions));
  describeRoute(app, {
    method: 'post',
    path: '/v1/completions',
    tag,
    summary: 'Completions',
    input: completionRequest,
    output: completion,
    streams,
  });
  app.post('/v1/completions', idempotent(completions));
  describeRoute(app, {
    method: 'post',
    path: '/v1/embeddings',
    tag,
    summary: 'Embeddings',
    input: embeddingRequest,
    output: embeddingList,
  });
  app.post('/v1/embeddings', idempotent(embeddings));
  serveModelList(app);
  serveImages(app);
  serveVideos(app);
  serveMusic(app);
  serveFiles(app);
  serveBatches(app);
}

async function chatCompletions(c: AppContext): Promise<Response> {
  const { bytes, body } = await readObject(c);
  const input = toInput(textChat.input, toChatInput(body));
  const n = toCount(body['n']);
  // Servers differ in how they write tool calls (no index, no id, arguments as an object), and SDKs break on that: those
  // answers are translated, which sets them right. Several answers at once few servers can give.
  if (n === 1 && !input.tools?.length) {
    const relayed = await relay(c, { capability: 'text.chat', path: '/chat/completions', body, bytes });
    if (relayed) return relayed;
  }
  const { gateway } = c.var.app;
  const options = toOptions(c);
  const runs = Array.from({ length: n }, (_, index) => gateway.run('text.chat', forChoice(input, index), options));
  const head = createHead('chatcmpl-');
  if (!input.stream) return joined(c, runs, (outputs) => toChatCompletion(head, outputs));
  const includeUsage = wantsUsage(body);
  return streamed(c, runs, includeUsage, (model, index) => {
    const encoder = createChunkEncoder(head, model, index, includeUsage);
    return {
      first: encoder.first,
      chunk: encoder.chunk,
      last: (output: Output<'text.chat'>) => encoder.last(output.finish_reason),
      usage: encoder.usage,
    };
  });
}

async function completions(c: AppContext): Promise<Response> {
  const { bytes, body } = await readObject(c);
  const inputs = toGenerateInputs(body).map((input) => toInput(textGenerate.input, input));
  const n = toCount(body['n']);
  if (inputs.length === 1 && n === 1) {
    const relayed = await relay(c, { capability: 'text.generate', path: '/completions', body, bytes });
    if (relayed) return relayed;
  }
  const { gateway } = c.var.app;
  const options = toOptions(c);
  const runs = inputs.flatMap((input) =>
    Array.from({ length: n }, (_, index) =>
      gateway.run('text.generate', input.seed === undefined ? input : { ...input, seed: input.seed + index }, options),
    ),
  );
  const head = createHead('cmpl-');
  if (body['stream'] !== true) return joined(c, runs, (outputs) => toCompletion(head, outputs));
  return streamed(c, runs, wantsUsage(body), (model, index) => {
    const line = (value: object) => `data: ${JSON.stringify(value)}\n\n`;
    return {
      first: () => '',
      chunk: (chunk: Chunk<'text.generate'>) =>
        line(toCompletionChunk(head, model, index, chunk.text ?? '', null, chunk.logprobs)),
      last: (output: Output<'text.generate'>) => line(toCompletionChunk(head, model, index, '', output.finish_reason)),
      usage: (usage: object) => line({ ...toCompletionChunk(head, model, index, '', null), choices: [], usage }),
    };
  });
}

async function embeddings(c: AppContext): Promise<Response> {
  const { body } = await readObject(c);
  const input = toInput(textEmbed.input, toEmbedInput(body));
  const run = c.var.app.gateway.run('text.embed', input, toOptions(c));
  return runJson(c, run, (output) => toEmbeddingList(output, body['encoding_format'] === 'base64'));
}

function toOptions(c: AppContext): RunOptions {
  return { signal: clientSignal(c), requestId: c.var.requestId, caller: c.var.caller };
}

/** Several runs, one answer. The first failure is the answer's, and stops the others. */
async function joined<Output>(
  c: AppContext,
  runs: Run<unknown, Output>[],
  toBody: (outputs: Output[]) => object,
): Promise<Response> {
  if (runs.length === 1) return runJson(c, runs[0]!, (output) => toBody([output]));
  try {
    const outputs = await Promise.all(runs.map((run) => run.result));
    return respondJson(c, toBody(outputs), { headers: runHeaders(c, runs[0]!) });
  } finally {
    for (const run of runs) run.cancel();
  }
}

interface Encoder<Chunk, Output> {
  first(): string;
  chunk(chunk: Chunk): string;
  last(output: Output): string;
  usage(usage: object): string;
}

function streamed<Chunk, Output extends { usage: Parameters<typeof sumUsage>[0][number]; model: string }>(
  c: AppContext,
  runs: Run<Chunk, Output>[],
  includeUsage: boolean,
  createEncoder: (model: string, index: number) => Encoder<Chunk, Output>,
): Promise<Response> {
  const cancel = () => runs.forEach((run) => run.cancel());

  async function* choice(run: Run<Chunk, Output>, index: number): AsyncGenerator<string> {
    let encoder: Encoder<Chunk, Output> | undefined;
    const begin = () => ((encoder = createEncoder(run.target!.model, index)), encoder.first());
    for await (const event of run.events()) {
      if (event.type === 'status') yield toComment(event);
      else if (event.type === 'chunk') {
        const head = encoder ? '' : begin();
        yield head + encoder!.chunk(event.chunk);
      } else if (event.type === 'result') {
        const head = encoder ? '' : begin();
        yield head + encoder!.last(event.result);
      }
    }
  }

  async function* body(): AsyncGenerator<string> {
    try {
      yield* runs.length === 1 ? choice(runs[0]!, 0) : merge(runs.map(choice));
      if (includeUsage) {
        const outputs = await Promise.all(runs.map((run) => run.result));
        yield createEncoder(outputs[0]!.model, 0).usage(sumUsage(outputs.map((output) => output.usage)));
      }
      yield 'data: [DONE]\n\n';
    } finally {
      cancel();
    }
  }

  return respondEvents(c, {
    ready: Promise.all(runs.map((run) => run.started)).catch((error) => {
      cancel();
      throw error;
    }),
    body: body(),
    headers: () => runHeaders(c, runs[0]!),
    // No [DONE] after a failure: half an answer must not look like a whole one.
    onError: (error) => `data: ${JSON.stringify(toErrorBody(error, c.var.requestId))}\n\n`,
    onGone: cancel,
  });
}

/** Waiting travels in comments, which every SSE reader skips and people see in curl. */
function toComment({ state, position, eta, message }: StatusEvent): string {
  const parts = [
    state,
    position === undefined ? '' : `position ${position}`,
    eta === undefined ? '' : `about ${Math.ceil(eta)} s`,
    message ?? '',
  ];
  return `: ${parts
    .filter(Boolean)
    .join(', ')
    .replace(/[\r\n]+/g, ' ')}\n\n`;
}

/** Whatever comes first, from any of them. */
async function* merge(sources: AsyncGenerator<string>[]): AsyncGenerator<string> {
  const next = (source: AsyncGenerator<string>) => source.next().then((result) => ({ source, result }));
  const pending = new Map(sources.map((source) => [source, next(source)]));
  while (pending.size > 0) {
    const { source, result } = await Promise.race(pending.values());
    if (result.done) pending.delete(source);
    else {
      pending.set(source, next(source));
      yield result.value;
    }
  }
}

async function readObject(c: AppContext): Promise<{ bytes: Uint8Array<ArrayBuffer>; body: Json }> {
  const bytes = await readBytes(c, c.var.app.config.max_body);
  const body = toJson(bytes);
  return { bytes, body: toInput(anyObject, body) };
}

function toCount(n: unknown): number {
  return n === undefined || n === null ? 1 : toInput(countOf, { n }).n;
}

function wantsUsage(body: Json): boolean {
  return (body['stream_options'] as { include_usage?: unknown } | null | undefined)?.include_usage === true;
}

function createHead(prefix: string): Head {
  return { id: prefix + crypto.randomUUID().replaceAll('-', ''), created: Math.floor(Date.now() / 1000) };
}
