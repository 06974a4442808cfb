// Stories: what each audience is asked for, and the bound that keeps children's stories fit for children.
import { describe, expect, it } from 'vitest';
import { audiences, styles, unsafeForChildren } from '../../src/capabilities/text/audience.ts';
import { openScripted } from '../support/open-scripted.ts';
import { createScripted } from '../support/scripted-runtime.ts';

const GOOD = 'Once upon a time, a fox found a bell. The fox was happy.';
const BAD = 'Once upon a time, a fox took a gun and began to kill.';

describe('text.story', () => {
  it.each(audiences)('asks a chat model in the voice of %s', async (audience) => {
    const runtime = createScripted({ chat: () => ({ text: GOOD }) });
    const output = await openScripted([runtime]).run('text.story', { prompt: 'a fox.', audience });
    expect(output).toMatchObject({ text: GOOD, audience, model: 'script' });
    const [asked] = runtime.chats;
    expect(asked!.messages[0]).toMatchObject({ role: 'system', content: styles[audience].system });
    expect(asked!.messages[1]!.content).toBe(`${styles[audience].ask} a fox.`);
    expect(asked).toMatchObject({ ...styles[audience].sampling, max_tokens: styles[audience].tokens.medium });
  });

  it('lets every knob be overridden', async () => {
    const runtime = createScripted({ chat: () => ({ text: GOOD }) });
    await openScripted([runtime]).run('text.story', {
      prompt: 'a fox',
      temperature: 0,
      max_tokens: 9,
      system: 'In rhymes.',
      length: 'long',
    });
    expect(runtime.chats[0]).toMatchObject({ temperature: 0, max_tokens: 9, top_p: styles.children.sampling.top_p });
    expect(runtime.chats[0]!.messages[0]!.content).toBe('In rhymes.');
  });

  it('gives a base model an opening that is part of the story', async () => {
    const runtime = createScripted({ generate: () => ({ text: 'they set out.' }) });
    const output = await openScripted([runtime]).run('text.story', { prompt: 'a ship', audience: 'young' });
    expect(output.text).toBe(`${styles.young.opening('a ship')}they set out.`);
    expect(runtime.generations[0]).toMatchObject({ raw: true, prompt: styles.young.opening('a ship') });
  });

  it('ends at the last full sentence when the tokens ran out', async () => {
    const runtime = createScripted({ chat: () => ({ text: `${GOOD} And then the`, finish: 'length' }) });
    expect((await openScripted([runtime]).run('text.story', { prompt: 'a fox' })).text).toBe(GOOD);
  });

  it('refuses a topic that is not for children, and takes it for adults', async () => {
    const { run } = openScripted([createScripted({ chat: () => ({ text: GOOD }) })]);
    await expect(run('text.story', { prompt: 'a murder' })).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'prompt',
    });
    await expect(run('text.story', { prompt: 'a murder', audience: 'adult' })).resolves.toMatchObject({
      audience: 'adult',
    });
  });

  it('writes anew, with another seed, what is not fit for children', async () => {
    const runtime = createScripted({ chat: ({ seed }) => ({ text: seed === 7 ? BAD : GOOD }) });
    const events = await openScripted([runtime]).events('text.story', { prompt: 'a fox', seed: 7 });
    expect(runtime.chats.map((chat) => chat.seed)).toEqual([7, 8]);
    expect(JSON.stringify(events)).not.toMatch(/gun|kill/);
    expect(events.at(-1)).toMatchObject({
      type: 'result',
      result: { text: GOOD, warnings: [expect.stringContaining('discarded')] },
    });
  });

  it('never lets unsafe text out, not even a piece of it', async () => {
    const events: unknown[] = [];
    const run = openScripted([createScripted({ chat: () => ({ text: BAD }) })]).start('text.story', {
      prompt: 'a fox',
      stream: true,
    });
    await expect(
      (async () => {
        for await (const event of run.events()) events.push(event);
      })(),
    ).rejects.toMatchObject({ code: 'unusable_output' });
    expect(events.some((event) => (event as { type: string }).type === 'chunk')).toBe(false);
  });

  it('streams pieces to other audiences', async () => {
    const events = await openScripted([createScripted({ chat: () => ({ text: GOOD }) })]).events('text.story', {
      prompt: 'a fox',
      audience: 'young',
    });
    expect(events.filter((event) => event.type === 'chunk').length).toBeGreaterThan(3);
  });
});

describe('the bound for children', () => {
  it.each([
    'He had a gun.',
    'KILL the dragon',
    'k i l l',
    'sh1t',
    'f*u*c*k',
    'se\u200bx',
    'múrdered',
    'She was naked.',
    '$ex',
    'He was drunk.',
    'g.u.n',
  ])('finds %j', (text) => expect(unsafeForChildren(text)).toBeDefined());

  it.each([
    'Ben began to sing.',
    'the skill of a weaver',
    'Sussex and Essex',
    'a classic assessment',
    'He had begun.',
    'The dam held.',
    'Peacock feathers',
    '3 little pigs, 1 wolf',
    'A bee said hello.',
  ])('leaves %j', (text) => expect(unsafeForChildren(text)).toBeUndefined());
});
