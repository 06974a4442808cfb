// text.evaluate: a text in, a score and a one-line reason per criterion out.
import { z } from 'zod';
import { GatewayError } from '../../error.ts';
import type { RunEvent } from '../../event.ts';
import { defineCapability, type Ask } from '../define.ts';
import { textChat } from './chat.ts';
import { modelField, seedField, text, toUsage, usage, type TokenLogprob, type Usage } from './fields.ts';
import { textGenerate } from './generate.ts';

const MIN = 1;
const MAX = 5;
const DIGITS = ['1', '2', '3', '4', '5'];
/** Below this share of probability on digits, the model was not answering the question. */
const DIGIT_MASS = 0.2;

const criterion = z.object({ name: z.string().min(1).max(200), description: z.string().max(2000).optional() });
type Criterion = z.output<typeof criterion>;

const DEFAULT_CRITERIA: Criterion[] = [
  { name: 'coherence', description: 'The sentences follow from each other and form one whole.' },
  { name: 'clarity', description: 'A reader understands it at first reading.' },
  { name: 'correctness', description: 'Grammar, spelling and facts are right.' },
];

const input = z.object({
  text: text.min(1).describe('The text to judge.'),
  criteria: z
    .array(
      z.union([
        z
          .string()
          .min(1)
          .max(200)
          .transform((name): Criterion => ({ name })),
        criterion,
      ]),
    )
    .min(1)
    .max(20)
    .optional()
    .describe('Names, or names with descriptions; coherence, clarity and correctness if absent.'),
  reference: text.optional().describe('A good answer to compare with.'),
  prompt: text.optional().describe('What the text was an answer to.'),
  ...modelField,
  ...seedField,
});
type EvaluateInput = z.output<typeof input>;

const score = z.object({
  criterion: z.string(),
  score: z.number().min(MIN).max(MAX).describe('1 is worst, 5 is best.'),
  reason: z.string().describe('One line.'),
  method: z
    .enum(['probability', 'stated'])
    .describe('probability: the expected digit under the model’s own distribution; stated: the number it wrote.'),
});
type Score = z.output<typeof score>;

const result = z.object({
  scores: z.array(score),
  overall: z.number().min(MIN).max(MAX).describe('The mean of the scores.'),
  fluency: z
    .object({ perplexity: z.number().positive(), tokens: z.int() })
    .optional()
    .describe(
      'How expected the text is to the model, where it offers log-probabilities of a given text; lower is more fluent.',
    ),
  usage,
});
type EvaluateEvent = RunEvent<never, z.output<typeof result>>;

export const textEvaluate = defineCapability({
  id: 'text.evaluate',
  path: '/text/eval',
  summary: 'Judge a text by criteria',
  description:
    'Each criterion gets a score from 1 to 5 and a reason. Where the model offers log-probabilities the score is the probability-weighted digit (as in G-Eval), otherwise the number it states in constrained output, repaired once.',
  input,
  result,
  chunk: z.never(),
  cli: {
    command: ['text', 'eval'],
    argument: 'text',
    showChunk: () => '',
    showResult: (result) =>
      [
        ...result.scores.map((score) => `${score.score.toFixed(2)}  ${score.criterion}: ${score.reason}`),
        `${result.overall.toFixed(2)}  overall`,
        ...(result.fluency
          ? [`perplexity ${result.fluency.perplexity.toFixed(1)} over ${result.fluency.tokens} tokens`]
          : []),
      ].join('\n'),
  },
  derive: { from: ['text.chat', 'text.generate'], run: evaluate },
});

async function* evaluate(input: EvaluateInput, ask: Ask): AsyncGenerator<EvaluateEvent> {
  const judge = createJudge(input, ask);
  const criteria = input.criteria ?? DEFAULT_CRITERIA;
  if (ask.model.tiny) {
    yield {
      type: 'warning',
      warning: `${ask.model.id} is too small to judge; its scores and reasons show that the path works, not what the text is worth.`,
    };
  }
  const scores: Score[] = [];
  for (const [index, criterion] of criteria.entries()) {
    yield { type: 'progress', done: index, total: criteria.length, unit: 'criteria' };
    scores.push(await judge.score(criterion));
  }
  const fluency = await judge.fluency();
  const overall = scores.reduce((sum, { score }) => sum + score, 0) / scores.length;
  yield {
    type: 'result',
    result: { scores, overall: round(overall), ...(fluency ? { fluency } : {}), usage: judge.usage() },
  };
}

/** Asks the model in the best way it offers, and remembers which that was. */
function createJudge(input: EvaluateInput, ask: Ask) {
  const spent = { prompt: 0, completion: 0 };
  const count = (usage: Usage) => {
    spent.prompt += usage.prompt_tokens;
    spent.completion += usage.completion_tokens;
  };
  const canChat = ask.offers('text.chat');
  let digitsFail = !canChat;

  async function chat(content: string, knobs: Omit<z.input<typeof textChat.input>, 'messages'>) {
    const messages = [{ role: 'user' as const, content }];
    const options = { temperature: 0, reasoning_effort: 'none' as const, seed: input.seed, ...knobs };
    const answer = await finalResult(ask.run(textChat, { ...options, messages }));
    count(answer.usage);
    return answer;
  }

  async function generate(knobs: z.input<typeof textGenerate.input>) {
    const answer = await finalResult(ask.run(textGenerate, knobs));
    count(answer.usage);
    return answer;
  }

  /** The expected digit over the first token that has any, or undefined. */
  async function byDigitToken(question: string): Promise<number | undefined> {
    const answer = await chat(`${question}\nAnswer with one digit from 1 to 5 and nothing else.`, {
      max_tokens: 3,
      logprobs: true,
      top_logprobs: 8,
    });
    for (const token of answer.logprobs ?? []) {
      const expected = expectedDigit(token);
      if (expected !== undefined) return expected;
    }
    return undefined;
  }

  /** The same from the likelihood of each continuation: exact, whatever the model would rather have said. */
  async function byLikelihood(question: string): Promise<number> {
    const weights: number[] = [];
    for (const digit of DIGITS) {
      const scored = await generate({
        prompt: `${question}\nScore: ${digit}`,
        raw: true,
        echo: true,
        logprobs: true,
        max_tokens: 0,
      });
      weights.push((scored.logprobs ?? []).reduce((sum, token) => sum + token.logprob, 0));
    }
    const top = Math.max(...weights);
    const shares = weights.map((weight) => Math.exp(weight - top));
    const total = shares.reduce((sum, share) => sum + share, 0);
    return shares.reduce((sum, share, index) => sum + (share / total) * Number(DIGITS[index]), 0);
  }

  async function byStatement(question: string, criterion: Criterion): Promise<Score> {
    const wanted = `${question}\nAnswer as JSON: {"score": <1 to 5>, "reason": "<one sentence>"}`;
    let problem = '';
    for (let attempt = 0; attempt < 2; attempt++) {
      const answer = await chat(wanted + problem, {
        max_tokens: 300,
        response_format: { type: 'json_schema', json_schema: { name: 'score', schema: STATED_SCHEMA, strict: true } },
      });
      const stated = toStated(answer.message.content);
      if (stated) return { criterion: criterion.name, ...stated, method: 'stated' };
      problem = `\nYour last answer was not that JSON: ${answer.message.content.slice(0, 300)}\nAnswer with the JSON alone.`;
    }
    throw new GatewayError('unusable_output', `${ask.model.id} gave no usable score for “${criterion.name}”.`, {
      hint: 'Choose a model that follows instructions, or one that offers log-probabilities.',
      retry: false,
    });
  }

  async function reason(question: string, score: number): Promise<string> {
    const asked = `${question}\nYou scored it ${score.toFixed(1)} of 5. Say why in one short sentence.`;
    const answer = canChat
      ? (await chat(asked, { max_tokens: 60 })).message.content
      : (await generate({ prompt: `${asked}\nBecause`, raw: true, max_tokens: 40, temperature: 0 })).text;
    return oneLine(answer) || 'The model gave no reason.';
  }

  return {
    async score(criterion: Criterion): Promise<Score> {
      const question = toQuestion(input, criterion);
      let expected: number | undefined;
      if (!digitsFail) expected = await byDigitToken(question);
      // Asking again in a way that just failed would double the cost of every further criterion.
      if (expected === undefined) digitsFail = true;
      if (expected === undefined && ask.model.echo) expected = await byLikelihood(question);
      if (expected === undefined) return byStatement(question, criterion);
      const score = round(expected);
      return { criterion: criterion.name, score, reason: await reason(question, score), method: 'probability' };
    },
    async fluency() {
      if (!ask.model.echo) return undefined;
      const scored = await generate({ prompt: input.text, raw: true, echo: true, logprobs: true, max_tokens: 0 });
      const tokens = scored.logprobs ?? [];
      if (tokens.length === 0) return undefined;
      const mean = tokens.reduce((sum, token) => sum + token.logprob, 0) / tokens.length;
      return { perplexity: Math.exp(-mean), tokens: tokens.length };
    },
    usage: () => toUsage(spent.prompt, spent.completion),
  };
}

const STATED_SCHEMA = {
  type: 'object',
  properties: { score: { type: 'integer', minimum: MIN, maximum: MAX }, reason: { type: 'string' } },
  required: ['score', 'reason'],
  additionalProperties: false,
};

function toQuestion({ text, prompt, reference }: EvaluateInput, criterion: Criterion): string {
  return [
    ...(prompt === undefined ? [] : [`Task:\n${prompt}\n`]),
    ...(reference === undefined ? [] : [`Good answer:\n${reference}\n`]),
    `Text:\n${text}\n`,
    `Score the text for ${criterion.name}${criterion.description ? ` (${criterion.description})` : ''}: 1 is worst, 5 is best.`,
  ].join('\n');
}

/** Σ digit · p(digit), p normalised over the digits that the model considered. */
function expectedDigit(token: TokenLogprob): number | undefined {
  const seen = new Map<string, number>();
  for (const { token: text, logprob } of [token, ...token.top_logprobs]) seen.set(text, logprob);
  let mass = 0;
  let sum = 0;
  for (const [text, logprob] of seen) {
    const digit = text.trim();
    if (!DIGITS.includes(digit)) continue;
    mass += Math.exp(logprob);
    sum += Math.exp(logprob) * Number(digit);
  }
  return mass >= DIGIT_MASS ? sum / mass : undefined;
}

const statedScore = z.object({ score: z.coerce.number().min(MIN).max(MAX), reason: z.string() });

function toStated(answer: string): { score: number; reason: string } | undefined {
  const json = /\{[\s\S]*\}/.exec(answer)?.[0];
  if (json === undefined) return undefined;
  try {
    const { score, reason } = statedScore.parse(JSON.parse(json));
    return { score, reason: oneLine(reason) || 'The model gave no reason.' };
  } catch {
    return undefined;
  }
}

async function finalResult<C, R>(events: AsyncIterable<RunEvent<C, R>>): Promise<R> {
  let last: R | undefined;
  for await (const event of events) if (event.type === 'result') last = event.result;
  if (last === undefined) throw new GatewayError('upstream_truncated', 'The model ended without an answer.');
  return last;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim().slice(0, 500);
}

function round(score: number): number {
  return Math.round(score * 100) / 100;
}
