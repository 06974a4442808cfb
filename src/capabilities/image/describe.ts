// image.describe: pictures and a question in, text out, through any model that chats and sees.
import { z } from 'zod';
import { defineCapability, type Ask } from '../define.ts';
import { fileField } from '../file.ts';
import { textChat } from '../text/chat.ts';
import { generated, modelField, samplingFields, streamField, text } from '../text/fields.ts';

const QUESTION = 'Describe this picture.';

const input = z.object({
  image: z.array(fileField('image', 'The picture to look at; several are looked at together.')).min(1).max(16),
  prompt: text.default(QUESTION).describe('What to tell of it.'),
  system: text.optional().describe('Instructions that come before.'),
  ...modelField,
  ...samplingFields,
  ...streamField,
});

export const imageDescribe = defineCapability({
  id: 'image.describe',
  path: '/image/describe',
  summary: 'Describe a picture, or answer a question about it',
  description: 'Text about pictures, from a model that sees.',
  input,
  result: z.object({ text: z.string(), reasoning: z.string().optional(), ...generated }),
  chunk: z.object({ text: z.string().optional(), reasoning: z.string().optional() }),
  needs: () => ['vision'],
  cli: {
    command: ['image', 'describe'],
    argument: 'image',
    showChunk: (chunk) => chunk.text ?? '',
    showResult: (result) => result.text,
  },
  derive: { from: ['text.chat'], run: describe },
});

async function* describe(fields: z.output<typeof input>, ask: Ask) {
  const { image, prompt, system, stream: _, ...knobs } = fields;
  const urls = await Promise.all(image.map(ask.inline));
  const pictures = urls.map((url) => ({ type: 'image_url' as const, image_url: { url } }));
  const messages = [
    ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
    { role: 'user' as const, content: [{ type: 'text' as const, text: prompt }, ...pictures] },
  ];
  for await (const event of ask.run(textChat, { ...knobs, messages })) {
    if (event.type === 'chunk') {
      const { text: piece, reasoning } = event.chunk;
      if (piece || reasoning) {
        const chunk = { ...(piece ? { text: piece } : {}), ...(reasoning ? { reasoning } : {}) };
        yield { type: 'chunk' as const, chunk };
      }
    } else if (event.type === 'result') {
      const { message, ...rest } = event.result;
      const { content, reasoning } = message;
      const result = { text: content ?? '', ...(reasoning === undefined ? {} : { reasoning }), ...rest };
      yield { type: 'result' as const, result };
    } else yield event;
  }
}
