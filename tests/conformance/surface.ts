// Every capability through one surface: real answers of the embedded runtime, and the same ones everywhere.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { capabilities, type CapabilityId } from '../../src/capabilities/index.ts';

/** A way to ask: HTTP in process, HTTP over a socket, the command line. */
export interface Surface {
  call(id: CapabilityId, input: Record<string, unknown>): Promise<Record<string, unknown>>;
  close(): Promise<void>;
}

const FIXED = { seed: 11, temperature: 0, max_tokens: 40 };

/** Asked of every surface; the answers must be equal to the letter on all of them. */
export const requests: [CapabilityId, Record<string, unknown>][] = [
  ['text.generate', { prompt: 'Tell a story for children about a fox.', ...FIXED }],
  ['text.chat', { messages: [{ role: 'user', content: 'Who are you?' }], seed: 3, temperature: 0.9, max_tokens: 40 }],
  ['text.story', { prompt: 'a bear', audience: 'children', length: 'short', seed: 5 }],
  ['text.edit', { text: 'The fox run home.', instruction: 'Correct the grammar.', ...FIXED }],
  ['text.evaluate', { text: 'The fox ran home. It was happy.', criteria: ['clarity'], seed: 1 }],
  ['text.embed', { input: ['a dog', 'a puppy', 'a car'] }],
  ['image.generate', { prompt: 'a red house at night', seed: 4, steps: 3 }],
];

const MODELS: Partial<Record<CapabilityId, string>> = { 'text.embed': 'tiny-embed', 'image.generate': 'tiny-t2i' };

/** The answers of the first surface that was asked in this process, for the others to equal. */
const answers = new Map<string, unknown>();

export function testSurface(name: string, open: () => Promise<Surface>): void {
  describe(`surface: ${name}`, () => {
    let surface: Surface;
    beforeAll(async () => {
      surface = await open();
    });
    afterAll(() => surface?.close());

    it.each(requests)('%s %j', { timeout: 60_000 }, async (id, input) => {
      const output = await surface.call(id, input);
      expect(capabilities[id].output.safeParse(output).error).toBeUndefined();
      expect(output['runtime']).toBe('embedded');
      expect(output['model']).toBe(MODELS[id] ?? 'tiny-story');
      const key = JSON.stringify([id, input]);
      const told = withoutNames(output);
      if (!answers.has(key)) answers.set(key, told);
      expect(told).toEqual(answers.get(key));
      // What is asked of a model that is too small for it is said.
      if (id === 'text.evaluate') expect(JSON.stringify(output['warnings'])).toContain('too small to judge');
    });
  });
}

/** Files are the same where their bytes are, whatever they are called. */
function withoutNames({ artifacts, ...output }: Record<string, unknown>): Record<string, unknown> {
  const files = artifacts as { sha256: string; size: number; media_type: string; media: unknown }[] | undefined;
  if (!files) return output;
  return {
    ...output,
    files: files.map(({ sha256, size, media_type, media }) => ({ sha256, size, media_type, media })),
  };
}
