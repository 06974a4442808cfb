// The endpoints that can be asked line by line: OpenAI's words → a capability's input, and its output → OpenAI's words.
import type { CapabilityId, Output } from '../../capabilities/index.ts';
import { textChat } from '../../capabilities/text/chat.ts';
import { textEmbed } from '../../capabilities/text/embed.ts';
import { textGenerate } from '../../capabilities/text/generate.ts';
import { GatewayError } from '../../error.ts';
import { toInput } from '../../http/body.ts';
import { toChatCompletion, toChatInput, type Head } from './chat.ts';
import { toCompletion, toGenerateInputs } from './completions.ts';
import { toEmbeddingList, toEmbedInput } from './embeddings.ts';

type Json = Record<string, unknown>;

/** What is kept of a body beside the input, for its answer. */
export interface AnswerNote {
  base64?: true;
}

export interface Endpoint {
  capability: CapabilityId;
  /** Of the answer's id. */
  prefix: string;
  /** Throws invalid_request, unsupported_parameter. */
  toInput(body: Json): { input: Json; note?: AnswerNote };
  toAnswer(head: Head, output: unknown, note: AnswerNote): object;
}

export const endpointPaths = ['/v1/chat/completions', '/v1/completions', '/v1/embeddings'] as const;
export type EndpointPath = (typeof endpointPaths)[number];

export const endpoints: Record<EndpointPath, Endpoint> = {
  '/v1/chat/completions': {
    capability: 'text.chat',
    prefix: 'chatcmpl-',
    toInput: (body) => ({ input: toInput(textChat.input, toChatInput(single(body))) }),
    toAnswer: (head, output) => toChatCompletion(head, [output as Output<'text.chat'>]),
  },
  '/v1/completions': {
    capability: 'text.generate',
    prefix: 'cmpl-',
    toInput(body) {
      const [input, ...more] = toGenerateInputs(single(body));
      if (more.length > 0) throw refused('prompt', 'Several prompts in one line are not supported.');
      return { input: toInput(textGenerate.input, input) };
    },
    toAnswer: (head, output) => toCompletion(head, [output as Output<'text.generate'>]),
  },
  '/v1/embeddings': {
    capability: 'text.embed',
    prefix: '',
    toInput: (body) => ({
      input: toInput(textEmbed.input, toEmbedInput(single(body))),
      ...(body['encoding_format'] === 'base64' ? { note: { base64: true as const } } : {}),
    }),
    toAnswer: (_, output, { base64 }) => toEmbeddingList(output as Output<'text.embed'>, base64 === true),
  },
};

/** A line is one request with one answer, so that what is counted is what was sent. */
function single(body: Json): Json {
  if (body['stream'] === true) throw refused('stream', 'The answer to a line of a batch cannot be streamed.');
  const n = body['n'];
  if (n !== undefined && n !== null && n !== 1) throw refused('n', 'A line of a batch has one answer.');
  return body;
}

function refused(param: string, message: string): GatewayError {
  const hint = param === 'stream' ? 'Leave stream out.' : 'Write a line of its own for each.';
  return new GatewayError('unsupported_parameter', message, { param, hint });
}
