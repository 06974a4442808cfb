// Who gets a model: the runtime that was named, else whoever is surest that it is theirs.
import { GatewayError } from '../../error.ts';
import type { Puller, PullWant } from '../../puller.ts';

export interface Chosen {
  puller: Puller;
  want: PullWant;
  /** The same for wants that are one pull. */
  key: string;
}

/** Throws not_found for a runtime that is not there, not_supported where nobody can get it. */
export function choosePuller(pullers: Puller[], wanted: PullWant & { runtime?: string | undefined }): Chosen {
  const { runtime, ...want } = wanted;
  if (runtime !== undefined) return chooseOf(pullers, runtime, want);
  const named = pullers.find((puller) => want.model.startsWith(`${puller.runtime}/`));
  if (named) {
    const chosen = surest(
      pullers.filter((puller) => puller.runtime === named.runtime),
      withoutRuntime(want, named.runtime),
    );
    if (chosen) return chosen;
  }
  const chosen = surest(pullers, want);
  if (chosen) return chosen;
  throw new GatewayError('not_supported', `Nothing here knows how to get “${want.model}”.`, {
    param: 'model',
    hint:
      pullers.length === 0
        ? 'Start Ollama for models of text, or ComfyUI (HONO_AI_COMFYUI_URL) for pictures, films and music.'
        : `Models can be got for ${names(pullers)}: say which with runtime, and where it is with source.`,
  });
}

function chooseOf(pullers: Puller[], runtime: string, want: PullWant): Chosen {
  const able = pullers.filter((puller) => puller.runtime === runtime);
  if (able.length === 0) {
    throw new GatewayError('not_found', `There is no runtime “${runtime}” that models can be got for.`, {
      param: 'runtime',
      hint: pullers.length === 0 ? 'Start Ollama or ComfyUI.' : `There are ${names(pullers)}.`,
    });
  }
  const chosen = surest(able, withoutRuntime(want, runtime)) ?? surest(able, want);
  if (chosen) return chosen;
  throw new GatewayError('not_supported', `${runtime} does not know how to get “${want.model}”.`, {
    param: 'model',
    source: runtime,
    hint: 'Say where it is with source: an https address, or hf:org/repo.',
  });
}

/** Of several that are as sure, the first. */
function surest(pullers: Puller[], want: PullWant): Chosen | undefined {
  let best: Puller | undefined;
  let most = -Infinity;
  for (const puller of pullers) {
    const claim = claimOf(puller, want);
    if (claim === undefined || !(claim > most)) continue;
    best = puller;
    most = claim;
  }
  if (!best) return undefined;
  return toChosen(best, want);
}

export function toChosen(puller: Puller, want: PullWant): Chosen {
  const { model, source = null, sha256 = null, kind = null } = want;
  return { puller, want, key: JSON.stringify([puller.runtime, model, source, sha256, kind]) };
}

/** For a want that was this runtime's before, whether it knows that now or not. */
export function chooseAgain(pullers: Puller[], runtime: string, want: PullWant): Chosen | undefined {
  const able = pullers.filter((puller) => puller.runtime === runtime);
  return surest(able, want) ?? (able[0] && toChosen(able[0], want));
}

/** One that fails over a name does not keep the others from getting it. */
function claimOf(puller: Puller, want: PullWant): number | undefined {
  try {
    return puller.claims(want);
  } catch {
    return undefined;
  }
}

function withoutRuntime(want: PullWant, runtime: string): PullWant {
  const prefix = `${runtime}/`;
  const { model } = want;
  return model.startsWith(prefix) && model.length > prefix.length
    ? { ...want, model: model.slice(prefix.length) }
    : want;
}

function names(pullers: Puller[]): string {
  return [...new Set(pullers.map(({ runtime }) => runtime))].join(', ');
}
