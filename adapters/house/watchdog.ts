// What is done about a runtime that gives no sign of life or does not let go of the card: the command that the operator has set restarts it.
import type { Log } from '../../src/http/context.ts';
import { untilAborted } from '../../src/timers.ts';
import { findCommand, runCommand, toWords, type Env } from './command.ts';

export interface WatchdogOptions {
  /** The command that restarts a runtime, by its name. `ignore`: one that is silent is left alone. */
  restart: Record<string, string>;
  /** Resolves when the runtime answers. */
  health(runtime: string, signal: AbortSignal): Promise<unknown>;
  log: Log;
  /** It has lost all that it held in memory. */
  onRestarted?: (runtime: string) => void;
  /** Aborts when the gateway closes: whatever runs is ended. */
  signal?: AbortSignal;
  /** Milliseconds, on a clock that does not jump. */
  now?: () => number;
  env?: Env;
  limits?: Partial<typeof LIMITS>;
}

export type Wedged = 'silent' | 'holds_on';

/** In the place of a command. */
export const IGNORE = 'ignore';
/** Milliseconds. */
const LIMITS = {
  /** For the command. */
  command: 60_000,
  /** For the runtime to answer again after it. Together with that, no longer than the arbiter waits. */
  health: 59_000,
  /** Between two questions whether it does. */
  ask: 500,
};
const ASKED_MS = 2000;
/** Whatever a restart does not cure is not cured by many. */
const APART_MS = 5 * 60_000;
const HOUR_MS = 3_600_000;
const AN_HOUR = 3;

/** Resolves with true where it was restarted and answers, so that it may be tried again, and for one that is to be left alone. Never throws. */
export function createWatchdog(options: WatchdogOptions): (runtime: string, how: Wedged) => Promise<boolean> {
  const { restart, health, log, onRestarted, now = () => performance.now(), env = process.env } = options;
  const signal = options.signal ?? new AbortController().signal;
  const limits = { ...LIMITS, ...options.limits };
  const begun = new Map<string, number[]>();
  const under = new Map<string, Promise<boolean>>();

  function mayRestart(runtime: string): boolean {
    const at = now();
    const times = (begun.get(runtime) ?? []).filter((time) => at - time < HOUR_MS);
    if (times.length >= AN_HOUR || at - (times.at(-1) ?? -Infinity) < APART_MS) return false;
    begun.set(runtime, [...times, at]);
    return true;
  }

  async function attempt(runtime: string, how: Wedged, command: string): Promise<boolean> {
    const trouble = how === 'silent' ? 'gives no sign of life' : 'does not let go of the card';
    const tell = (level: 'info' | 'warn' | 'error', message: string, more = {}) =>
      log({ level, message, runtime, ...more });
    if (!mayRestart(runtime)) {
      tell('error', `${runtime} ${trouble}, and was restarted not long ago: it is left alone.`, { hint: LOOK });
      return false;
    }
    tell('warn', `${runtime} ${trouble}: it is restarted.`);
    const failure = (await start(runtime, command)) ?? (await untilWell(runtime));
    if (signal.aborted) return false;
    if (failure) tell('error', `${runtime} was not restarted: ${failure.message}`, { hint: failure.hint });
    else tell('info', `${runtime} was restarted and answers again.`);
    return failure === undefined;
  }

  /** Undefined where the command has done what it should. */
  async function start(runtime: string, command: string): Promise<Failure | undefined> {
    const [name, ...args] = toWords(command) ?? [];
    const program = name === undefined ? undefined : await findCommand(name, env);
    if (program === undefined)
      return { message: 'its command is not there.', hint: 'Look at HONO_AI_RESTART and at PATH.' };
    const { code, late, output } = await runCommand([program, ...args], { env, ms: limits.command, signal });
    if (output !== '')
      log({ level: 'debug', message: `What the command that restarts ${runtime} said.`, runtime, output });
    const hint = 'Run the command of HONO_AI_RESTART by hand; its output is in the log at level debug.';
    if (code === 0) return undefined;
    if (late) return { message: `its command did not end within ${toSeconds(limits.command)} s.`, hint };
    return { message: code === undefined ? 'its command could not be run.' : `its command ended with ${code}.`, hint };
  }

  /** Undefined where it is. */
  async function untilWell(runtime: string): Promise<Failure | undefined> {
    const end = performance.now() + limits.health;
    for (;;) {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(Math.min(ASKED_MS, limits.health))]);
      const isWell = await untilAborted(health(runtime, limit), limit).then(
        () => true,
        () => false,
      );
      if (isWell) return undefined;
      if (signal.aborted || performance.now() >= end) {
        return { message: `it does not answer after ${toSeconds(limits.health)} s.`, hint: LOOK };
      }
      await new Promise((resolve) => setTimeout(resolve, limits.ask));
    }
  }

  return async (runtime, how) => {
    const command = Object.hasOwn(restart, runtime) ? restart[runtime]! : undefined;
    // What is not to be restarted may work for hours without a word; but what holds on will not let go for being asked again.
    if (command?.trim() === IGNORE) return how === 'silent';
    if (command === undefined || signal.aborted) return false;
    const known = under.get(runtime);
    if (known) return known;
    const mine = attempt(runtime, how, command)
      .then((done) => {
        if (done) onRestarted?.(runtime);
        return done;
      })
      .catch(() => false)
      .finally(() => under.delete(runtime));
    under.set(runtime, mine);
    return mine;
  };
}

interface Failure {
  message: string;
  hint: string;
}

const LOOK = 'Look at its log, and restart it by hand.';

function toSeconds(ms: number): number {
  return Math.round(ms / 1000);
}
