// Models that are got because a request names them: for gateways whose owner wants that, and then for whoever may ask them anything.
import { GatewayError, toGatewayError } from '../error.ts';
import type { OnDemand } from '../own.ts';
import { createPace } from './pulls/handler.ts';
import type { Pulls, Wanted } from './pulls.ts';
import type { Routing } from './routing.ts';
import type { Choice } from './views.ts';

export interface OnDemandOptions {
  pulls: Pick<Pulls, 'choose' | 'follow'>;
  routing: Pick<Routing, 'aliases'>;
}

/** Names that stand for whatever answers by default: nothing is got for them. */
const ANY = new Set(['default', 'auto', 'warm']);
/** An address, or one file of a repository: whoever may ask for answers does not choose what is put on this disk. */
const FILE = /:\/\/|^(?:hf:|(?:hf\.co|huggingface\.co)\/)[^/]+\/[^/]+\/./i;

export function createOnDemand({ pulls, routing }: OnDemandOptions): OnDemand {
  function toWanted(name: string, runtime: string | undefined): Wanted {
    if (runtime !== undefined) return { model: name, runtime };
    const choice = routing.aliases().get(name);
    return { model: choice === undefined ? name : firstOf(choice) };
  }

  return {
    gets(name, runtime) {
      if (ANY.has(name) || (FILE.test(name) && !routing.aliases().has(name))) return false;
      try {
        pulls.choose(toWanted(name, runtime));
        return true;
      } catch {
        return false;
      }
    },
    async *get(name, runtime, signal) {
      const wanted = toWanted(name, runtime);
      const isTimely = createPace();
      for await (const event of pulls.follow(wanted, signal)) {
        if (event.type === 'pulled') return { model: event.model, runtime: event.runtime };
        // It is not in line for the card yet: that comes once the model is here.
        if (event.type === 'status') yield { ...event, state: 'loading' as const };
        else if (event.type === 'warning' || isTimely(event)) yield event;
      }
      throw new GatewayError('internal', 'The pull ended without an end.', { cause: toGatewayError(signal.reason) });
    },
  };
}

function firstOf(choice: Choice): string {
  if (typeof choice === 'string') return choice;
  return (Array.isArray(choice) ? choice : choice.models)[0]!;
}
