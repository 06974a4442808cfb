#!/usr/bin/env node
// The installed command: plain JavaScript, so that a Node that is too old can say so, or hand over to one that is not.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as nodeModule from 'node:module';
import { fileURLToPath } from 'node:url';

const [major, minor] = process.versions.node.split('.').map(Number);
const recent = Boolean(process.versions.bun || process.versions.deno) || major > 22 || (major === 22 && minor >= 19);

// The source runs as it is; remembering its compiled form halves the time of every later start.
nodeModule.enableCompileCache?.();

if (recent) await import('./main.ts');
else handOver(fileURLToPath(new URL('../node_modules/.bin/node', import.meta.url)));

function handOver(node) {
  if (!existsSync(node)) {
    console.error(
      `hono-ai: needs Node 22.19 or later, this is ${process.versions.node}. Get one from https://nodejs.org.`,
    );
    process.exit(1);
  }
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
  // A terminal signals the whole group; what is sent to this process alone must reach the one that works.
  process.on('SIGINT', () => process.stdin.isTTY || process.stderr.isTTY || child.kill('SIGINT'));
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)));
}
