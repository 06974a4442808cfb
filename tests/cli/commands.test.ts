// Commands in this process, over a runtime that repeats what it is told.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { capabilities } from '../../src/capabilities/index.ts';
import { call, createHome, type CallOptions } from '../support/command-line.ts';
import { createFakeRuntime, type FakeRuntime } from '../support/fake-runtime.ts';
import { eventually } from '../support/gateway.ts';

let home: ReturnType<typeof createHome>;
let fake: FakeRuntime;

beforeEach(() => {
  home = createHome();
  fake = createFakeRuntime();
});
afterEach(() => home.remove());

const run = (argv: string[], options: CallOptions = {}) =>
  call(argv, { runtimes: [fake], ...options, env: { ...home.env, ...options.env } });

describe('text on standard output', () => {
  it('comes while it is made, ends with one newline, and nothing else is there', async () => {
    const pieces: string[] = [];
    const { code, stdout, stderr } = await run(['text', 'gen', 'one', 'two', 'three'], {
      onOutput: (stdout) => pieces.push(stdout),
    });
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'one two three\n' });
    expect(pieces.slice(0, 2)).toEqual(['one ', 'one two ']);
    expect(stderr).toContain('echo on fake, 3 tokens');
    expect(stderr).toContain('Loading echo');
  });

  it('waits for the end with --no-stream, and keeps notes to itself with -q', async () => {
    const pieces: string[] = [];
    const { stdout, stderr } = await run(['text', 'gen', 'one two', '--no-stream', '-q'], {
      onOutput: (stdout) => pieces.push(stdout),
    });
    expect(pieces[0]).toBe('one two');
    expect({ stdout, stderr }).toEqual({ stdout: 'one two\n', stderr: '' });
  });

  it('has one newline at its end, however many the model wrote', async () => {
    expect((await run(['text', 'gen', 'a\n\nb\n\n\n'])).stdout).toBe('a\n\nb\n');
  });

  it('cannot drive a terminal, but reaches a pipe as it is', async () => {
    const wild = 'a\x1b[31mred\x1b]0;title\x07b\rc\x9b2J\tend';
    expect((await run(['text', 'gen', wild], { tty: true })).stdout).toBe('aredbc\tend\n');
    expect((await run(['text', 'gen', wild])).stdout).toBe(`${wild}\n`);
  });

  it('tells what could not be honoured', async () => {
    const { stderr } = await run(['text', 'gen', 'hi', '--seed', '1']);
    expect(stderr).toContain('warning: The fake has no seed.');
  });
});

describe('programs', () => {
  it('get one JSON object with --json', async () => {
    const { code, stdout } = await run(['text', 'gen', 'hi', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ text: 'hi', model: 'echo', runtime: 'fake', warnings: [] });
  });

  it('get each event as a line with --json-stream', async () => {
    const { stdout } = await run(['text', 'chat', 'a b', '--json-stream']);
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string });
    expect(events.map(({ type }) => type)).toEqual(['status', 'chunk', 'chunk', 'result']);
  });

  it('get failures in the same form', async () => {
    const whole = await run(['text', 'gen', 'hi', '-m', 'nope', '--json']);
    expect(whole.code).toBe(3);
    expect(JSON.parse(whole.stdout)).toMatchObject({ error: { code: 'model_not_found', param: 'model' } });
    const events = await run(['text', 'gen', 'hi', '-m', 'broken', '--json-stream']);
    expect(events.code).toBe(5);
    const last = JSON.parse(events.stdout.trim().split('\n').at(-1)!) as unknown;
    expect(last).toMatchObject({ type: 'error', error: { code: 'upstream_terminated', source: 'fake' } });
  });
});

describe('standard input', () => {
  it('is the argument where there are no words, without its last newline', async () => {
    await run(['text', 'gen'], { stdin: 'from a pipe\n' });
    expect(fake.generations[0]!.prompt).toBe('from a pipe');
  });

  it('follows the words of gen and chat after a blank line', async () => {
    await run(['text', 'gen', 'Explain', 'this'], { stdin: 'some code\n' });
    expect(fake.generations[0]!.prompt).toBe('Explain this\n\nsome code');
    await run(['text', 'chat', 'Explain'], { stdin: 'that' });
    expect(fake.chats[0]!.messages).toEqual([{ role: 'user', content: 'Explain\n\nthat' }]);
  });

  it('is read for - and is the text of edit', async () => {
    await run(['text', 'edit', '-i', 'shorter', '-'], { stdin: 'A long text.\n' });
    expect(fake.chats[0]!.messages.at(-1)!.content).toContain('Instruction: shorter\n\n<text>\nA long text.\n</text>');
  });

  it('does not hold up words where nobody put a pipe', async () => {
    const stdin = { isTTY: false, redirected: false, read: () => new Promise<Uint8Array>(() => {}) };
    const { main } = await import('../../cli/cli.ts');
    let stdout = '';
    const sink = { isTTY: false, columns: 80, write: (data: string | Uint8Array) => void (stdout += String(data)) };
    const code = await main(['text', 'gen', 'hi', '-q'], {
      stdin,
      stdout: sink,
      stderr: { ...sink, write: () => {} },
      env: home.env,
      signal: new AbortController().signal,
      runtimes: [fake],
    });
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'hi\n' });
  });

  it('is missed with a hint on a terminal, never prompted for', async () => {
    const { code, stdout, stderr } = await run(['text', 'gen'], { tty: true });
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('text gen needs PROMPT');
  });

  it('must be UTF-8', async () => {
    const { code, stderr } = await run(['text', 'gen'], { stdin: new Uint8Array([0xff, 0xfe, 0x00]) });
    expect(code).toBe(2);
    expect(stderr).toContain('not UTF-8');
  });
});

describe('flags', () => {
  it('become the fields of the schema, repeated ones as lists', async () => {
    await run(
      'text gen hi --max-tokens 5 --temperature=0.5 --stop a --stop b --raw --presence-penalty -1 -m echo'.split(' '),
    );
    expect(fake.generations[0]).toMatchObject({
      max_tokens: 5,
      temperature: 0.5,
      stop: ['a', 'b'],
      raw: true,
      presence_penalty: -1,
      model: 'echo',
    });
  });

  it('take JSON and files of it where the schema has objects', async () => {
    const file = join(home.folder, 'messages.json');
    writeFileSync(file, JSON.stringify([{ role: 'assistant', content: 'Yes?' }]));
    const tool = JSON.stringify({ type: 'function', function: { name: 'look' } });
    const argv = [
      'text',
      'chat',
      'go on',
      '-s',
      'be brief',
      '--messages',
      `@${file}`,
      '--tools',
      tool,
      '--tools',
      `[${tool}]`,
    ];
    expect((await run([...argv, '--tool-choice', 'auto'])).code).toBe(0);
    expect(fake.chats[0]).toMatchObject({
      messages: [
        { role: 'system', content: 'be brief' },
        { role: 'assistant', content: 'Yes?' },
        { role: 'user', content: 'go on' },
      ],
      tools: [{ function: { name: 'look' } }, { function: { name: 'look' } }],
      tool_choice: 'auto',
    });
  });

  it('turn pictures into data: URLs by what is in them', async () => {
    const file = join(home.folder, 'picture.txt');
    writeFileSync(file, Buffer.from('\x89PNG\r\n\x1a\nrest', 'latin1'));
    const url = `data:image/png;base64,${Buffer.from('\x89PNG\r\n\x1a\nrest', 'latin1').toString('base64')}`;
    await run(['text', 'gen', 'see', '--image', file]);
    expect(fake.generations[0]!.images).toEqual([url]);
    await run(['text', 'chat', 'see', '--image', file]);
    expect(fake.chats[0]!.messages[0]!.content).toEqual([
      { type: 'text', text: 'see' },
      { type: 'image_url', image_url: { url } },
    ]);
    writeFileSync(file, 'no picture');
    expect((await run(['text', 'gen', 'see', '--image', file])).code).toBe(2);
  });

  it.each([
    [['text', 'gen', 'hi', '--modle', 'x'], 'Did you mean --model?'],
    [['text', 'gen', 'hi', '--max_tokens', '5'], 'Did you mean --max-tokens?'],
    [['text', 'gen', 'hi', '--max-tokens', 'many'], 'must be a whole number'],
    [['text', 'gen', 'hi', '--max-tokens'], 'needs a value'],
    [['text', 'gen', 'hi', '--model', '--quiet'], '--model=--quiet'],
    [['text', 'gen', 'hi', '--temperature', '9'], '--temperature'],
    [['text', 'gen', 'hi', '--raw=yes'], 'takes no value'],
    [['text', 'gen', 'hi', '--prompt', 'ho', '--stream', '--tools', 'x'], '--tools is not a flag'],
    [['text', 'story', 'hi', '--audience', 'childrn'], 'Did you mean children?'],
    [['text', 'story', 'hi', '--prompt', 'ho'], 'one of them is enough'],
    [['text', 'edit', 'hi'], '--instruction: is needed'],
    [['text', 'chat', 'hi', '--messages', '{'], 'valid JSON'],
    [['text', 'chat', 'hi', '--messages', '@/no/such/file'], 'file that can be read'],
    [['text', 'story', 'a murder'], 'not a topic for a children'],
    [['text', 'sing'], 'text has no command “sing”'],
    [['embed', 'x'], 'Did you mean hono-ai text embed?'],
    [['modls', 'ls'], 'Did you mean hono-ai models?'],
    [['models', 'ls', 'x'], 'takes no argument'],
    [['completion', 'bsh'], 'Did you mean bash?'],
    [['models', 'ls', '--timeout', '0'], 'a number of seconds above 0'],
    [['models', 'ls', '--url', 'ftp://x'], 'http:// or https://'],
    [['api', 'GET'], 'PATH begins with /'],
  ])('%j is refused with a remedy', async (argv, remedy) => {
    const { code, stdout, stderr } = await run(argv);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(remedy);
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  it('may stand before the command, and words that look like flags after --', async () => {
    const { code, stdout } = await run(['--json', '--timeout', '9', 'text', 'gen', '--', '--model']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ text: '--model' });
  });

  it('of every capability hide none that all commands have', async () => {
    for (const { cli, own } of Object.values(capabilities)) {
      if (own) continue;
      const { code, stdout } = await run([...cli.command, '--help']);
      expect(code).toBe(0);
      expect(stdout).toContain('--url URL');
      expect(stdout).toContain('--model MODEL');
    }
  });
});

describe('exit codes', () => {
  it.each([
    ['nope', 3],
    ['broken', 5],
    ['busy', 6],
  ])('model %s ends with %i', async (model, expected) => {
    expect((await run(['text', 'gen', 'one two', '-m', model])).code).toBe(expected);
  });

  it('of a capability that the model does not offer is 1', async () => {
    fake.models = async () => [{ id: 'mute', capabilities: ['text.embed'], state: 'ready' }];
    expect((await run(['text', 'gen', 'hi'])).code).toBe(1);
  });

  it('of an address where nobody is is 5, without a stack', async () => {
    const { code, stderr } = await run(['text', 'gen', 'hi', '--url', 'http://127.0.0.1:1']);
    expect(code).toBe(5);
    expect(stderr).toContain('No gateway answers at http://127.0.0.1:1');
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  it('of a wrong key is 4, and of the right one 0', async () => {
    const env = { HONO_AI_API_KEY: 'a-key-of-sixteen-letters' };
    const wrong = await run(['models', 'ls', '--key', 'another-key-that-is-wrong'], { env });
    expect(wrong.code).toBe(4);
    expect(wrong.stderr).toContain('HONO_AI_API_KEY hides it');
    expect((await run(['models', 'ls'], { env })).code).toBe(0);
  });

  it('of a broken configuration is 2 and names the setting', async () => {
    const { code, stderr } = await run(['models', 'ls'], { env: { PORT: 'many' } });
    expect(code).toBe(2);
    expect(stderr).toContain('PORT');
  });

  it('of a timeout is 124, and the work is stopped', async () => {
    const { code, stdout } = await run(['text', 'gen', 'one two', '-m', 'slow', '--timeout', '3']);
    expect({ code, stdout }).toEqual({ code: 124, stdout: 'one \n' });
    expect(fake.aborts).toBe(1);
  });

  it('of Ctrl-C is 130, and the work is stopped', async () => {
    const stop = new AbortController();
    const running = run(['text', 'gen', 'one two', '-m', 'slow'], {
      signal: stop.signal,
      onOutput: (stdout) => stdout.startsWith('one') && stop.abort(),
    });
    expect((await running).code).toBe(130);
    await eventually('the abort reached the runtime', () => fake.aborts === 1);
  });
});

describe('models ls', () => {
  it('marks the default and separates by tabs on a pipe', async () => {
    const { code, stdout } = await run(['models', 'ls']);
    expect(code).toBe(0);
    const rows = stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t'));
    expect(rows[0]).toEqual([
      'echo',
      '*',
      'fake',
      'ready',
      '-',
      '-',
      '-',
      '4096',
      expect.stringContaining('text: generate, chat'),
    ]);
    expect(rows[1]!.slice(0, 2)).toEqual(['slow', '']);
  });

  it('is a table on a terminal, names only with --ids, everything with --json', async () => {
    expect((await run(['models', 'ls'], { tty: true })).stdout).toMatch(
      /^MODEL +RUNTIME +STATE +SIZE +VRAM +FIT +CONTEXT +CAN\n/,
    );
    expect((await run(['models', 'ls', '--ids'])).stdout).toBe('echo\nslow\nbroken\nbusy\n');
    const whole = JSON.parse((await run(['models', 'ls', '--json'])).stdout) as { defaults: object };
    expect(whole.defaults).toMatchObject({ 'text.generate': 'echo' });
  });
});

describe('status, config, version, api', () => {
  it('status says that there is no gateway', async () => {
    const { code, stdout, stderr } = await run(['status']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'fake\tup\t4\t\n' });
    expect(stderr).toContain('no gateway is running');
    expect(JSON.parse((await run(['status', '--json'])).stdout)).toMatchObject({ active_runs: 0 });
  });

  it('config explain masks secrets wherever they stand', async () => {
    mkdirSync(join(home.folder, 'hono-ai'));
    const file = join(home.folder, 'hono-ai', 'hono-ai.yaml');
    const entry = { name: 'far', kind: 'openai', url: 'http://user:pass-word@far.example/v1', api_key: 'file-secret' };
    writeFileSync(file, JSON.stringify({ runtimes: [entry], port: 9999 }));
    const env = { HONO_AI_API_KEY: 'environment-secret', OPENAI_BASE_URL: 'http://me:url-secret@x.example/v1' };
    for (const form of [[], ['--json']]) {
      const { code, stdout } = await run(['config', 'explain', ...form], { env });
      expect(code).toBe(0);
      expect(stdout).not.toMatch(/environment-secret|url-secret|file-secret|pass-word/);
      expect(stdout).toContain('environment: HONO_AI_API_KEY');
      expect(stdout).toContain(`file: ${file}`);
    }
    expect((await run(['config', 'explain', '--config', '/no/such.yaml'])).code).toBe(2);
  });

  it('config env and config schema are complete', async () => {
    expect((await run(['config', 'env'])).stdout).toContain('# HONO_AI_API_KEY=');
    const schema = JSON.parse((await run(['config', 'schema'])).stdout) as { properties: object };
    expect(Object.keys(schema.properties)).toEqual(expect.arrayContaining(['port', 'runtimes', 'aliases']));
  });

  it('version is short', async () => {
    expect((await run(['--version'])).stdout).toMatch(/^hono-ai \d+\.\d+\.\d+\n$/);
    expect((await run(['version', '--json'])).stdout).toMatch(/"host":"node /);
  });

  it('api passes bytes on and fails with the answer', async () => {
    const ok = await run(['api', 'GET', '/health']);
    expect(JSON.parse(ok.stdout)).toMatchObject({ status: 'ok' });
    const stream = await run(['api', 'POST', '/text/gen', '-d', '{"prompt":"a b","stream":true}']);
    expect(stream.stdout).toContain('event: chunk\ndata: {"text":"a "}\n\n');
    const piped = await run(['api', 'POST', '/text/gen', '-d', '-'], { stdin: '{"prompt":"x"}' });
    expect(JSON.parse(piped.stdout)).toMatchObject({ text: 'x' });
    const missing = await run(['api', 'GET', '/nothing']);
    expect(missing.code).toBe(3);
    expect(JSON.parse(missing.stdout)).toMatchObject({ error: { code: 'not_found' } });
  });

  it('help is on standard output and costs nothing', async () => {
    for (const argv of [[], ['--help'], ['help', 'text', 'gen'], ['text', '--help'], ['text'], ['serve', '-h']]) {
      const { code, stdout, stderr } = await run(argv);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain('Usage: hono-ai');
    }
  });
});
