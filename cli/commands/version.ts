// `version`: what this is, without loading any of it.
import { readFileSync } from 'node:fs';
import { defineLeaf } from '../command.ts';

export const version = defineLeaf({
  path: 'version',
  summary: 'Print the version',
  flags: {},
  async run({ out, flags }) {
    const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    const { version } = JSON.parse(manifest) as { version: string };
    if (flags.json) out.json({ version, host: toHost() });
    else out.line(`hono-ai ${version}`);
  },
});

/** `node 24.1.0`. Bun and Deno report a Node version too. */
function toHost(): string {
  const engine = ['bun', 'deno'].find((name) => process.versions[name] !== undefined) ?? 'node';
  return `${engine} ${process.versions[engine]}`;
}
