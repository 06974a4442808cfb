// The doctor: looks at the services, the card, the disk and the network of this machine, and says what mends what is wrong.
import type { Checkup, Doctor, Finding } from '../../src/doctor.ts';
import { checkCard } from './card.ts';
import type { Check, Draft, DoctorOptions } from './check.ts';
import { checkDisk } from './disk.ts';
import { checkGateway } from './gateway.ts';
import { checkHouse } from './house.ts';
import { checkNetwork } from './network.ts';
import { checkRuntimes } from './runtimes.ts';
import { checkSoftware } from './software.ts';

export type { DoctorOptions } from './check.ts';

const CHECKS: Record<string, Check> = {
  gateway: checkGateway,
  runtimes: checkRuntimes,
  card: checkCard,
  house: checkHouse,
  disk: checkDisk,
  network: checkNetwork,
  software: checkSoftware,
};
/** Longest time that one check may take, in milliseconds. */
const CHECK_MS = 5000;

export function createDoctor(options: DoctorOptions): Doctor {
  async function look(name: string, check: Check, caller: AbortSignal): Promise<Draft[]> {
    const limit = AbortSignal.timeout(CHECK_MS);
    const late = Promise.withResolvers<Draft[]>();
    const signal = AbortSignal.any([caller, limit]);
    signal.addEventListener('abort', () => late.resolve([unfinished(name)]), { once: true });
    const broken = (): Draft[] => [unfinished(name)];
    return Promise.race([check(options, signal).catch(broken), late.promise]);
  }

  return {
    async examine({ fix, signal }) {
      const found = (
        await Promise.all(Object.entries(CHECKS).map(([name, check]) => look(name, check, signal)))
      ).flat();
      const fixed: string[] = [];
      const findings: Finding[] = [];
      for (const { mend, ...draft } of found) {
        const finding: Finding = { fix: null, ...draft, fixable: mend !== undefined };
        if (fix && mend && finding.level !== 'ok') {
          const done = await mend().then(
            () => undefined,
            (error: unknown) => (error instanceof Error ? error.message : String(error)),
          );
          if (done === undefined) {
            fixed.push(finding.id);
            findings.push({
              ...finding,
              level: 'ok',
              message: `${finding.message} Mended.`,
              fix: null,
              fixable: false,
            });
            continue;
          }
          finding.message += ' It could not be mended here.';
        }
        findings.push(finding);
      }
      const ok = findings.every(({ level }) => level !== 'fail');
      return { object: 'checkup', ok, findings, fixed } satisfies Checkup;
    },
  };
}

function unfinished(name: string): Draft {
  return {
    id: name,
    area: 'gateway',
    level: 'warn',
    message: `The look at the ${name} did not end in time.`,
    fix: 'Run hono-ai doctor again; a disk or a service of this machine hangs.',
  };
}
