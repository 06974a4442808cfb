// What every runtime holds in memory, asked side by side; of one that does not answer in time, what it last said.
import { toGatewayError } from '../error.ts';
import { memoryOf, type Resident, type RuntimeAdapter } from '../runtime.ts';
import { within } from '../timers.ts';

export interface Holding {
  runtime: RuntimeAdapter;
  residents: Resident[];
  /** `now`: it has just said so; `before`: it did once; `never`: nothing is known of it. */
  told: 'now' | 'before' | 'never';
}

export type Holders = () => Promise<Holding[]>;

/** Longest wait for one runtime, in milliseconds. */
const ASK_MS = 1000;

export function createHolders(runtimes: RuntimeAdapter[]): Holders {
  const last = new Map<string, Resident[]>();
  const under = new Map<string, Promise<Holding>>();

  async function ask(runtime: RuntimeAdapter): Promise<Holding> {
    const { name } = runtime;
    try {
      const asked = memoryOf(runtime)!.residents(AbortSignal.timeout(ASK_MS));
      const residents = await within(ASK_MS, asked);
      if (residents) {
        last.set(name, residents);
        return { runtime, residents, told: 'now' };
      }
    } catch (error) {
      // What is not there any more holds nothing.
      if (toGatewayError(error).code === 'upstream_unavailable') last.delete(name);
    }
    const residents = last.get(name);
    return { runtime, residents: residents ?? [], told: residents ? 'before' : 'never' };
  }

  return () =>
    Promise.all(
      runtimes.filter(memoryOf).map((runtime) => {
        // Those who ask at the same time share one question.
        const asking = under.get(runtime.name) ?? ask(runtime).finally(() => under.delete(runtime.name));
        under.set(runtime.name, asking);
        return asking;
      }),
    );
}
