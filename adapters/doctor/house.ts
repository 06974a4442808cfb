// What the operator has set about the card that cannot be done here: its power, restarts of runtimes, shares of callers.
import { chosenCard } from '../../src/hardware.ts';
import { OWNER } from '../../src/http/guard.ts';
import { findCap } from '../house/cap.ts';
import { findCommand, toWords } from '../house/command.ts';
import { IGNORE } from '../house/watchdog.ts';
import type { Check, Draft, DoctorOptions } from './check.ts';

export const checkHouse: Check = async (options) => {
  const found = await Promise.all([checkPower(options), checkRestarts(options)]);
  return [...found.flat(), ...checkShares(options)];
};

async function checkPower({ config, hardware, env, root }: DoctorOptions): Promise<Draft[]> {
  const watts = config.background_power_w;
  const card = chosenCard(await hardware.read());
  if (watts === undefined || !card) return [];
  const about = { id: 'card.power', area: 'card' as const };
  const cap = await findCap(card, { env, ...(root === undefined ? {} : { root }) });
  const limits = await cap?.read();
  if (!cap || !limits) {
    const message = `The power of ${card.name} cannot be set from here: background work runs at full power.`;
    return [
      {
        ...about,
        level: 'warn',
        message,
        fix: 'Unset HONO_AI_BACKGROUND_POWER_W; in a container, run the gateway outside of it.',
      },
    ];
  }
  if (!(await cap.isAllowed())) {
    const message = 'This user may not set the power of the card: background work runs at full power.';
    return [{ ...about, level: 'warn', message, fix: cap.remedy }];
  }
  if (watts < limits.min) {
    const message = `The card takes no limit below ${limits.min} W: background work gets that, not ${watts} W.`;
    return [{ ...about, level: 'warn', message, fix: `Set HONO_AI_BACKGROUND_POWER_W=${Math.ceil(limits.min)}.` }];
  }
  return [{ ...about, level: 'ok', message: `Background work runs at ${Math.min(watts, limits.now)} W.` }];
}

/** Whether the commands are there; what they do is known when they are needed. */
async function checkRestarts({ config, env, runtimes }: DoctorOptions): Promise<Draft[]> {
  const findings = Object.entries(config.restart).map(async ([name, command]): Promise<Draft> => {
    const about = { id: `restart.${name}`, area: 'runtime' as const };
    if (!runtimes.some((runtime) => runtime.name === name)) {
      const names = runtimes.map((runtime) => runtime.name).join(', ');
      return {
        ...about,
        level: 'warn',
        message: `There is no runtime ${name} to restart.`,
        fix: `In HONO_AI_RESTART, name one of ${names}.`,
      };
    }
    if (command.trim() === IGNORE)
      return { ...about, level: 'ok', message: `${name} is left alone when it is silent.` };
    const [program] = toWords(command) ?? [];
    if (program !== undefined && (await findCommand(program, env)) !== undefined) {
      return { ...about, level: 'ok', message: `${name} can be restarted.` };
    }
    return {
      ...about,
      level: 'fail',
      message: `The command that restarts ${name} is not there.`,
      fix: `In HONO_AI_RESTART, begin it with a program of PATH or with a whole path; words in quotes are one.`,
    };
  });
  return Promise.all(findings);
}

function checkShares({ config }: DoctorOptions): Draft[] {
  const callers = [OWNER, ...Object.keys(config.callers ?? {})];
  const unknown = Object.keys(config.shares).filter((name) => !callers.includes(name));
  return unknown.map((name) => ({
    id: `shares.${name}`,
    area: 'card',
    level: 'warn',
    message: `There is no caller ${name} to have a share of the card.`,
    fix: `In HONO_AI_SHARES, name one of ${callers.join(', ')}.`,
  }));
}
