// Judging: the three ways to a score, and that every answer fits the schema.
import { describe, expect, it } from 'vitest';
import { capabilities } from '../../src/capabilities/index.ts';
import { openScripted } from '../support/open-scripted.ts';
import { createScripted, type Answer, type Script } from '../support/scripted-runtime.ts';

const token = (text: string, p: number, others: [string, number][] = []) => ({
  token: text,
  logprob: Math.log(p),
  top_logprobs: [[text, p] as const, ...others].map(([token, share]) => ({ token, logprob: Math.log(share) })),
});

const evaluate = async (script: Script, input: object = {}) => {
  const runtime = createScripted(script);
  const output = await openScripted([runtime]).run('text.evaluate', {
    text: 'A text.',
    criteria: ['clarity'],
    ...input,
  });
  capabilities['text.evaluate'].output.parse(output);
  return { runtime, output };
};

describe('text.evaluate', () => {
  it('takes the probability-weighted digit where there are log-probabilities', async () => {
    const chat = (input: { logprobs?: boolean | undefined }): Answer =>
      input.logprobs
        ? {
            text: '4',
            logprobs: [
              token('4', 0.6, [
                ['5', 0.3],
                ['x', 0.1],
              ]),
            ],
          }
        : { text: 'It is\n clear.' };
    const { output, runtime } = await evaluate({ chat });
    expect(output.scores).toEqual([
      { criterion: 'clarity', score: 4.33, reason: 'It is clear.', method: 'probability' },
    ]);
    expect(output.overall).toBe(4.33);
    expect(runtime.chats[0]).toMatchObject({ temperature: 0, reasoning_effort: 'none', logprobs: true });
    expect(output.fluency).toBeUndefined();
  });

  it('looks past a token that is no digit', async () => {
    const chat = (input: { logprobs?: boolean | undefined }): Answer =>
      input.logprobs ? { text: '\n3', logprobs: [token('\n', 0.9), token(' 3', 0.9)] } : { text: 'Because.' };
    expect((await evaluate({ chat })).output.scores[0]).toMatchObject({ score: 3, method: 'probability' });
  });

  it('asks for constrained output where there are none, and remembers that', async () => {
    const chat = (input: { response_format?: unknown }): Answer => ({
      text: input.response_format ? '{"score": 2, "reason": "Dull."}' : 'Well…',
    });
    const { output, runtime } = await evaluate(
      { chat },
      { criteria: ['clarity', { name: 'wit', description: 'It is funny.' }] },
    );
    expect(output.scores).toMatchObject([{ score: 2, reason: 'Dull.', method: 'stated' }, { criterion: 'wit' }]);
    // One try with log-probabilities in all, then one call per criterion.
    expect(runtime.chats).toHaveLength(3);
    expect(String(runtime.chats[2]!.messages[0]!.content)).toContain('It is funny.');
  });

  it('repairs once, then gives a clear error', async () => {
    let calls = 0;
    const repaired = await evaluate({
      chat: (input) => ({
        text: input.response_format && ++calls === 2 ? 'Sure: {"score": "5", "reason": "Good."}' : '{"score": 9}',
      }),
    });
    expect(repaired.output.scores[0]).toMatchObject({ score: 5, reason: 'Good.' });
    await expect(evaluate({ chat: () => ({ text: 'I would rather not.' }) })).rejects.toMatchObject({
      code: 'unusable_output',
    });
  });

  it('scores by the likelihood of each digit, and reports perplexity, where a prompt can be scored', async () => {
    const generate = ({ prompt, echo }: { prompt: string; echo?: boolean | undefined }): Answer => {
      if (!echo) return { text: 'it is short.' };
      const digit = /Score: (\d)$/.exec(prompt)?.[1];
      return {
        text: prompt,
        logprobs: digit
          ? [token('…', 0.5), token(digit, digit === '5' ? 0.75 : 0.0625)]
          : [token('A', 0.25), token(' text', 0.25)],
      };
    };
    const { output } = await evaluate({ generate, model: { echo: true, tiny: true } });
    expect(output.scores[0]).toMatchObject({ score: 4.38, method: 'probability', reason: 'it is short.' });
    expect(output.fluency).toEqual({ perplexity: expect.closeTo(4, 5), tokens: 2 });
    expect(output.warnings).toEqual([expect.stringContaining('too small to judge')]);
  });

  it('puts the task and a good answer before the text', async () => {
    const { runtime } = await evaluate(
      { chat: () => ({ text: '{"score": 3, "reason": "ok"}' }) },
      { prompt: 'Explain rain.', reference: 'Water falls.' },
    );
    expect(String(runtime.chats[0]!.messages[0]!.content)).toMatch(/Explain rain\.[\s\S]*Water falls\.[\s\S]*A text\./);
  });

  it('has criteria of its own', async () => {
    const { output } = await evaluate(
      { chat: () => ({ text: '{"score": 3, "reason": "ok"}' }) },
      { criteria: undefined },
    );
    expect(output.scores.map(({ criterion }) => criterion)).toEqual(['coherence', 'clarity', 'correctness']);
    expect(output.usage.total_tokens).toBeGreaterThan(0);
  });
});
