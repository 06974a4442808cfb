// The gateway itself: who may read what it keeps, whether its store is well, and whether its port is its own.
import { chmod, stat } from 'node:fs/promises';
import { isLoopback } from '../../src/config.ts';
import type { Check, Draft } from './check.ts';

const PROBE_MS = 1500;

export const checkGateway: Check = async (options, signal) => {
  const { config, health, stateDir } = options;
  const [state, store, port] = await Promise.all([checkFolder(stateDir), health(), checkPort(options, signal)]);
  const findings: Draft[] = [state, port];
  const area = 'gateway' as const;
  if (store.problems.length === 0 && store.ok) {
    findings.push({ id: 'store', area, level: 'ok', message: 'Jobs are safe.' });
  }
  for (const problem of store.problems) {
    findings.push({ id: 'store', area, level: store.ok ? 'warn' : 'fail', message: problem });
  }
  if (config.api_key === undefined && !isLoopback(config.host)) {
    findings.push({
      id: 'key',
      area,
      level: 'warn',
      message: 'Everybody who reaches this gateway can use it: it has no key.',
      fix: 'Set HONO_AI_API_KEY to at least 16 characters.',
    });
  }
  return findings;
};

/** It holds keys of webhooks, links and what people asked: nobody else on this machine is to read it. */
async function checkFolder(path: string): Promise<Draft> {
  const about = { id: 'state', area: 'gateway' as const };
  const found = await stat(path).catch(() => undefined);
  if (!found) return { ...about, level: 'fail', message: 'The state directory is not there.', fix: `mkdir -p ${path}` };
  if (process.platform !== 'win32' && (found.mode & 0o077) !== 0) {
    return {
      ...about,
      level: 'warn',
      message: 'Other users of this machine can look into the state directory.',
      fix: `chmod 700 ${path}`,
      mend: () => chmod(path, 0o700),
    };
  }
  return { ...about, level: 'ok', message: 'The state directory is this user’s alone.' };
}

async function checkPort({ config }: Parameters<Check>[0], signal: AbortSignal): Promise<Draft> {
  const { port } = config;
  const about = { id: 'port', area: 'gateway' as const };
  if (port === 0) return { ...about, level: 'ok', message: 'Any free port is taken.' };
  try {
    const reply = await fetch(`http://127.0.0.1:${port}/health`, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)]),
      redirect: 'manual',
    });
    await reply.body?.cancel();
    if (reply.headers.has('x-hono-ai')) {
      return { ...about, level: 'ok', message: `A gateway answers on port ${port}.` };
    }
  } catch (error) {
    // Nobody there: that is what a port that can be had looks like. What is there and mute shows as a timeout.
    const mute = error instanceof Error && error.name === 'TimeoutError';
    if (!mute) return { ...about, level: 'ok', message: `Port ${port} is free.` };
  }
  return {
    ...about,
    level: 'fail',
    message: `Port ${port} belongs to another program.`,
    fix: `Stop it, or set PORT to another one: PORT=${port + 1} hono-ai serve`,
  };
}
