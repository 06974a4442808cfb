// The same requests through every surface: HTTP in process and on three hosts, and the command line.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { capabilities } from '../src/capabilities/index.ts';
import { testSurface, type Surface } from './conformance/surface.ts';
import { createHome } from './support/command-line.ts';
import { engines, openInProcess, openServed, post, root, type TestGateway } from './support/gateway.ts';

function overHttp(gateway: TestGateway): Surface {
  return {
    call: async (id, input) =>
      (await (await gateway.request(capabilities[id].path, post(input))).json()) as Record<string, unknown>,
    close: () => gateway.close(),
  };
}

const SLOW = { HONO_AI_FIRST_BYTE_MS: '60000', HONO_AI_IDLE_MS: '60000' };

testSurface('HTTP in process', async () => overHttp(await openInProcess({ env: SLOW })));
testSurface('HTTP on Node', async () => overHttp(await openServed('node', { env: SLOW })));
testSurface('HTTP on Bun', async () => overHttp(await openServed('bun', { env: SLOW })));
testSurface('HTTP on Deno', async () => overHttp(await openServed('deno', { env: SLOW })));

testSurface('command line', async () => {
  const home = createHome();
  return {
    async call(id, input) {
      const flags = Object.entries(input).flatMap(([name, value]) => toFlags(name.replaceAll('_', '-'), value));
      const { cli, makes } = capabilities[id];
      const output = makes ? ['-o', `${join(home.folder, 'made')}/`] : [];
      const args = ['cli/main.ts', ...cli.command, ...flags, ...output, '--json', '-q'];
      const { PATH, NODE_COMPILE_CACHE } = process.env;
      const env = { PATH, NODE_COMPILE_CACHE, ...home.env };
      const { stdout } = await promisify(execFile)(engines.node.command, args, { cwd: root, env });
      return JSON.parse(stdout) as Record<string, unknown>;
    },
    close: async () => home.remove(),
  };
});

function toFlags(name: string, value: unknown): string[] {
  if (Array.isArray(value) && value.every((item) => typeof item === 'string'))
    return value.flatMap((item) => [`--${name}`, item]);
  return [`--${name}`, typeof value === 'object' ? JSON.stringify(value) : String(value)];
}
