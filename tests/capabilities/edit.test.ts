// Editing: the edited text alone comes back, with what changed.
import { describe, expect, it } from 'vitest';
import { openScripted } from '../support/open-scripted.ts';
import { createScripted } from '../support/scripted-runtime.ts';

const edit = (answer: string, text: string, model = {}) => {
  const runtime = createScripted({ chat: () => ({ text: answer }), model });
  return { runtime, output: openScripted([runtime]).run('text.edit', { text, instruction: 'Make it past tense.' }) };
};

describe('text.edit', () => {
  it('gives the text, a unified diff and the changed words', async () => {
    const { runtime, output } = edit('The cat sat.\nIt purred.', 'The cat sits.\nIt purred.');
    expect(await output).toMatchObject({ text: 'The cat sat.\nIt purred.', finish_reason: 'stop' });
    expect((await output).diff).toContain('-The cat sits.\n+The cat sat.\n It purred.');
    expect((await output).changes).toContainEqual({ op: 'delete', text: 'sits' });
    expect((await output).changes).toContainEqual({ op: 'insert', text: 'sat' });
    expect(
      (await output).changes
        .filter(({ op }) => op !== 'delete')
        .map(({ text }) => text)
        .join(''),
    ).toBe('The cat sat.\nIt purred.');
    const [asked] = runtime.chats;
    expect(asked!.messages[1]!.content).toContain('Make it past tense.');
    expect(asked!.messages[1]!.content).toContain('<text>\nThe cat sits.');
  });

  it.each([
    ['<text>\nShort.\n</text>', 'Shrot.\n', 'Short.\n'],
    ['```text\nShort.\n```', 'Shrot.', 'Short.'],
    ['  Short.  ', 'Shrot.', 'Short.'],
    ['```js\nx\n```', '```js\ny\n```', '```js\nx\n```'],
  ])('unwraps %j', async (answer, original, expected) => {
    expect((await edit(answer, original).output).text).toBe(expected);
  });

  it('has an empty diff where nothing changed', async () => {
    expect(await edit('Same.', 'Same.').output).toMatchObject({ diff: '', changes: [{ op: 'equal', text: 'Same.' }] });
  });

  it('fails clearly on an empty answer', async () => {
    await expect(edit('   ', 'x').output).rejects.toMatchObject({ code: 'unusable_output', status: 502 });
  });

  it('says when the model is too small', async () => {
    expect((await edit('b', 'a', { tiny: true }).output).warnings).toEqual([expect.stringContaining('too small')]);
  });
});
