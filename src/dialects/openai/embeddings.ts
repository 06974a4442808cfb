// OpenAI embeddings ⇄ text.embed.
import { z } from 'zod';
import { toBase64 } from '../../base64.ts';
import { textEmbed } from '../../capabilities/text/embed.ts';
import type { Output } from '../../capabilities/index.ts';
import { GatewayError } from '../../error.ts';

export const embeddingRequest = textEmbed.input.extend({ encoding_format: z.enum(['float', 'base64']).optional() });

export const embeddingList = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      object: z.literal('embedding'),
      index: z.int(),
      embedding: z.union([z.array(z.number()), z.string()]),
    }),
  ),
  model: z.string(),
  usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
});

export function toEmbedInput(body: Record<string, unknown>): Record<string, unknown> {
  const { input, model, dimensions, encoding_format } = body;
  const items = Array.isArray(input) ? input : [input];
  if (items.some((item) => typeof item === 'number' || Array.isArray(item))) {
    throw new GatewayError('unsupported_parameter', 'Input of token numbers is not supported.', {
      param: 'input',
      hint: 'Send text: token numbers mean something else to every model.',
    });
  }
  if (
    encoding_format !== undefined &&
    encoding_format !== null &&
    encoding_format !== 'float' &&
    encoding_format !== 'base64'
  ) {
    throw new GatewayError('invalid_request', 'encoding_format: float or base64', { param: 'encoding_format' });
  }
  return { input, ...(model ? { model } : {}), ...(dimensions ? { dimensions } : {}) };
}

export function toEmbeddingList({ embeddings, model, usage }: Output<'text.embed'>, base64: boolean) {
  return {
    object: 'list',
    data: embeddings.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: base64 ? toBase64(toFloats(vector)) : vector,
    })),
    model,
    usage,
  };
}

/** Little-endian float32, as the SDKs ask for without saying so. */
function toFloats(vector: number[]): Uint8Array {
  const bytes = new Uint8Array(vector.length * 4);
  const view = new DataView(bytes.buffer);
  vector.forEach((value, index) => view.setFloat32(index * 4, value, true));
  return bytes;
}
