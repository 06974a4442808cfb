// The shape of the code: which way imports point, what src may know, and that AGENTS.md tells the tree as it is.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';
import { root } from './support/gateway.ts';

const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8' })
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const code = files.filter((file) => /^(src|adapters|cli)\/.*\.ts$/.test(file));
const read = (file: string) => readFileSync(join(root, file), 'utf8');

interface Import {
  from: string;
  to: string;
  typeOnly: boolean;
  /** `import()`: loaded when it is needed, so it closes no cycle. */
  lazy: boolean;
}

/** Static and dynamic imports, relative ones resolved to paths from the root. */
const imports: Import[] = code.flatMap((from) =>
  [
    ...read(from).matchAll(
      /(?:^|\n)\s*(import|export)\s+(type\s+)?(?:[^'"`;]*?\sfrom\s+)?'([^']+)'|\bimport\('([^']+)'\)/g,
    ),
  ].map((match) => {
    const target = match[3] ?? match[4]!;
    return {
      from,
      to: target.startsWith('.') ? normalize(join(dirname(from), target)) : target,
      typeOnly: match[2] !== undefined,
      lazy: match[4] !== undefined,
    };
  }),
);

/** What a part of the tree may import: prefixes of paths, and packages. The first rule that fits a file counts. */
const rules: [where: RegExp, may: RegExp][] = [
  [/^src\/(error|event)\.ts$/, /^src\/(error|event)\.ts$/],
  [/^src\/capabilities\//, /^(src\/(capabilities\/|error\.ts|event\.ts)|zod$|diff$)/],
  [/^src\/media\.ts$/, /^src\/(capabilities\/file|error|event)\.ts$/],
  [/^src\/workflows\.ts$/, /^(src\/(capabilities\/|error\.ts)|zod$)/],
  [/^src\/run\.ts$/, /^src\/(arbiter\/leases|error|event)\.ts$/],
  [/^src\/(runtime|puller)\.ts$/, /^src\/(capabilities\/|workflows\.ts|puller\.ts|runtime\.ts|error\.ts|event\.ts)/],
  [/^src\/(hardware|doctor)\.ts$/, /^zod$/],
  [
    /^src\/models\//,
    /^(src\/(models\/|arbiter\/|capabilities\/|catalog|distance|hub|own|puller|runtime|store|timers|error|event)|zod$)/,
  ],
  [/^src\/upstream\.ts$/, /^src\/(error|event)\.ts/],
  [/^src\/settings(\.ts$|\/)/, /^(src\/settings\/|zod$)/],
  [/^src\/config\.ts$/, /^(src\/(settings|models\/(choices|views))\.ts|zod)$/],
  [/^src\/arbiter\//, /^src\/(arbiter\/|runtime\.ts|store\.ts|timers\.ts|error\.ts|event\.ts)/],
  [/^src\/(distance|timers)\.ts$/, /^$/],
  [/^src\/own\.ts$/, /^src\/(capabilities\/|run|event)/],
  [/^src\/offers\.ts$/, /^src\/(capabilities\/|runtime)/],
  [
    /^src\/catalog(\/|\.ts$)/,
    /^src\/(catalog|capabilities\/|distance|models\/(choices|routing|views)|offers|puller|runtime\.ts|timers\.ts|workflows\.ts|error\.ts)/,
  ],
  [/^src\/store\.ts$/, /^$/],
  [/^src\/hub\.ts$/, /^src\/store\.ts$/],
  [/^src\/realtime\//, /^(src\/(realtime\/|hub|store|error)|zod$)/],
  [/^src\/base64\.ts$/, /^$/],
  [
    /^src\/artifacts(\/|\.ts)/,
    /^(src\/(artifacts|base64|capabilities\/|media|runtime|store|error|event)|zod$|file-type)/,
  ],
  [/^src\/webhooks\//, /^(src\/(webhooks\/|base64|store|error)|zod$)/],
  [/^src\/jobs\//, /^(src\/(jobs\/|arbiter\/|base64|capabilities\/|gateway|hub|run|store|timers|error|event)|zod$)/],
  [/^src\/handle\.ts$/, /^src\/(base64|capabilities\/|media|runtime|error|event)/],
  [
    /^src\/gateway\.ts$/,
    /^src\/(arbiter\/|capabilities\/|catalog|handle|media|own|run|runtime|timers|turn|error|event)/,
  ],
  [/^src\/turn\.ts$/, /^src\/(arbiter\/|catalog|timers|error|event)/],
  [
    /^src\/http\//,
    /^(src\/(http\/|base64|realtime\/|jobs\/|artifacts|webhooks\/|capabilities\/|arbiter\/|gateway|config|run|hub|store|models\/|hardware|doctor|error|event)|zod$|hono|@hono\/zod-openapi$|multipasta)/,
  ],
  [
    /^src\/dialects\//,
    /^(src\/(dialects\/|base64|http\/|jobs\/|artifacts|capabilities\/|gateway|catalog|models\/|run|store|upstream|error|event)|zod$|@hono\/zod-openapi$)/,
  ],
  [
    /^src\/routes\//,
    /^(src\/(dialects\/openai\/models|capabilities\/|http\/|jobs\/|models\/|realtime\/|artifacts|webhooks\/|workflows|hardware|doctor|puller|runtime|store|error)|zod$|@hono\/zod-openapi$)/,
  ],
  [/^src\//, /^(src\/|hono|@hono\/zod-openapi$|zod$)/],
  [/^adapters\/runtimes\/index\.ts$/, /^(adapters\/|src\/|node:path$)/],
  [/^adapters\/hosts\/worker\.ts$/, /^(hono|adapters\/hosts\/|src\/error\.ts)/],
];

describe('imports', () => {
  it('are found at all', () => {
    expect(imports.length).toBeGreaterThan(100);
    expect(imports).toContainEqual(
      expect.objectContaining({ from: 'src/gateway.ts', to: 'src/run.ts', typeOnly: false }),
    );
  });

  it('point one way', () => {
    const wrong = imports.filter(({ from, to }) => {
      const rule = rules.find(([where]) => where.test(from));
      return rule !== undefined && !rule[1].test(to);
    });
    expect(wrong.map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
  });

  it('never go from src to anything outside, nor between runtimes', () => {
    const outside = imports.filter(
      ({ from, to }) => from.startsWith('src/') && /^(adapters|cli|tests|node:|bun|jsr:)/.test(to),
    );
    const runtime = (file: string) => /^adapters\/runtimes\/([^/]+)\//.exec(file)?.[1];
    const between = imports.filter(({ from, to }) => runtime(from) && runtime(to) && runtime(from) !== runtime(to));
    const hono = imports.filter(({ from, to }) => runtime(from) && /hono/.test(to));
    expect([...outside, ...between, ...hono]).toEqual([]);
  });

  it('have no cycles', () => {
    const edges = new Map(
      code.map((file) => [
        file,
        imports.filter(({ from, typeOnly, lazy }) => from === file && !typeOnly && !lazy).map(({ to }) => to),
      ]),
    );
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (file: string, path: string[]) => {
      if (path.includes(file)) return void cycles.push([...path.slice(path.indexOf(file)), file].join(' → '));
      if (done.has(file)) return;
      for (const next of edges.get(file) ?? []) visit(next, [...path, file]);
      done.add(file);
    };
    for (const file of code) visit(file, []);
    expect(cycles).toEqual([]);
  });

  it('carry their extension, so that source runs without a build', () => {
    const bare = imports.filter(({ to }) => /^(src|adapters|cli)\//.test(to) && !/\.(ts|mjs|json)$/.test(to));
    expect(bare).toEqual([]);
  });
});

describe('src', () => {
  it('uses only what every host has (pages hold snippets for readers)', () => {
    const banned = /\b(process\.|Bun\.|Deno\.|Buffer\.|__dirname|require\()/;
    const found = code.filter(
      (file) =>
        file.startsWith('src/') &&
        !file.includes('/pages/') &&
        banned.test(read(file).replace(/\/\/.*|\/\*[\s\S]*?\*\//g, '')),
    );
    expect(found).toEqual([]);
  });

  it('names no runtime where it would have to branch on it', () => {
    const shared = code.filter(
      (file) => /^src\/(gateway|catalog|run|arbiter|http)/.test(file) && !file.includes('/pages/'),
    );
    const found = shared.filter((file) => /===\s*'(ollama|openai|embedded|xai|node|bun|deno)'/.test(read(file)));
    expect(found).toEqual([]);
  });

  it('reaches the network in one place', () => {
    const found = code.filter(
      (file) => file.startsWith('src/') && /(?<![.\w])fetch\(/.test(read(file).replace(/\/\/.*|\/\*[\s\S]*?\*\//g, '')),
    );
    // app.ts only declares the app's own fetch.
    expect(found.filter((file) => file !== 'src/app.ts')).toEqual(['src/upstream.ts']);
  });
});

describe('files', () => {
  it('open with one sentence that says what they are for', () => {
    const silent = code.filter((file) => !/^(#![^\n]*\n)?\/\/ \S/.test(read(file)));
    expect(silent).toEqual([]);
  });

  it('stay small', () => {
    const large = code
      .map((file) => ({ file, lines: read(file).split('\n').length }))
      .filter(({ lines }) => lines > 400);
    expect(large).toEqual([]);
  });

  it('are in the tree of AGENTS.md, and nothing else is', () => {
    const tree = /```tree\n([\s\S]*?)```/.exec(read('AGENTS.md'))![1]!;
    const told: string[] = [];
    const folders: string[] = [];
    for (const line of tree.split('\n').filter(Boolean)) {
      const depth = /^ */.exec(line)![0].length / 2;
      const name = line.trim().split(/\s{2,}/)[0]!;
      folders.length = depth;
      if (name.endsWith('/')) folders.push(name.slice(0, -1));
      told.push([...folders, ...(name.endsWith('/') ? [] : [name])].join('/'));
    }
    for (const path of told) expect(existsSync(join(root, path)), `${path} is told but not there`).toBe(true);
    const missing = code.filter(
      (file) =>
        !told.some(
          (path) =>
            file === path || (file.startsWith(`${path}/`) && !told.some((other) => other.startsWith(`${path}/`))),
        ),
    );
    expect(missing).toEqual([]);
  });

  it('hold no path of a machine and no host of a package registry', () => {
    const text = files.filter(
      (file) => !/\.(onnx|gguf|i8|f32|png|json)$/.test(file) && file !== 'tests/architecture.test.ts',
    );
    const found = text.filter((file) =>
      /\/(work|home|root|Users)\/[a-z]+\/|registry\.(npmjs|yarnpkg)|pypi\.org|deb\.debian\.org/.test(read(file)),
    );
    expect(found).toEqual([]);
    expect(read('package-lock.json')).not.toContain('"resolved"');
  });
});
