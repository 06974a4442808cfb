// The runtimes: each of them asked whether it is well, and what to do where it is not.
import { spawn } from 'node:child_process';
import { errorTable, toGatewayError, type ErrorCode } from '../../src/error.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { withoutSecrets } from '../house/command.ts';
import { findProgram, isOlder, type Check, type Draft, type DoctorOptions } from './check.ts';

/** Older ones lack what the gateway relies on. */
const OLDEST: Record<string, [version: string, why: string]> = {
  ollama: ['0.12.0', 'it tells too little of its models'],
  comfyui: ['0.3.57', 'it cannot stop one job without stopping others'],
};
/** Milliseconds that a service gets to come up. */
const START_MS = 4000;

export const checkRuntimes: Check = async (options, signal) => {
  const findings = await Promise.all(options.runtimes.map((runtime) => checkOne(runtime, options, signal)));
  const statuses = await options.statuses();
  const models = statuses.filter(({ ok }) => ok).reduce((sum, status) => sum + status.models, 0);
  if (models === 0) {
    findings.push({
      id: 'models',
      area: 'runtime',
      level: 'fail',
      message: 'There is no model that could answer.',
      fix: 'hono-ai models pull qwen3:8b, or HONO_AI_EMBEDDED=true for the built-in ones',
    });
  }
  return findings;
};

async function checkOne(runtime: RuntimeAdapter, options: DoctorOptions, signal: AbortSignal): Promise<Draft> {
  const about = { id: `runtime.${runtime.name}`, area: 'runtime' as const };
  try {
    const { version } = (await runtime.health(signal)) ?? {};
    const told = version === undefined ? '' : ` ${version}`;
    const [oldest, why] = OLDEST[runtime.name] ?? [];
    if (version !== undefined && oldest !== undefined && isOlder(version, oldest)) {
      const message = `${runtime.name} ${version} is older than ${oldest}: ${why}.`;
      return { ...about, level: 'warn', message, fix: `Update ${runtime.name}.` };
    }
    return { ...about, level: 'ok', message: `${runtime.name}${told} answers.` };
  } catch (thrown) {
    const error = toGatewayError(thrown);
    const { message, hint } = error;
    if (isByChance(runtime, options)) return await absent(runtime, options, message);
    const level = errorTable[error.code as ErrorCode][0] >= 500 ? 'fail' : 'warn';
    return { ...about, level, message, ...(hint ? { fix: hint } : {}) };
  }
}

/** Nobody has asked for it: it is looked for where it usually is. */
function isByChance({ name }: RuntimeAdapter, { config }: DoctorOptions): boolean {
  return name === 'ollama' && config.ollama_url === undefined && !config.runtimes.some((entry) => entry.name === name);
}

async function absent({ name, health }: RuntimeAdapter, options: DoctorOptions, message: string): Promise<Draft> {
  const about = { id: `runtime.${name}`, area: 'runtime' as const };
  const program = await findProgram(name, options);
  if (program === undefined) {
    return {
      ...about,
      level: 'info',
      message: `${name} is not installed; the built-in models answer.`,
      fix: 'curl -fsSL https://ollama.com/install.sh | sh',
    };
  }
  return { ...about, level: 'fail', message, fix: `${name} serve`, mend: () => start(program, options.env, health) };
}

/** It goes on when this process ends, and learns none of its secrets. */
async function start(program: string, all: DoctorOptions['env'], health: RuntimeAdapter['health']): Promise<void> {
  const env = withoutSecrets(all) as NodeJS.ProcessEnv;
  const child = spawn(program, ['serve'], { detached: true, stdio: 'ignore', env });
  child.on('error', () => {});
  child.unref();
  const until = performance.now() + START_MS;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    try {
      await health(AbortSignal.timeout(1000));
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
    }
  }
}
