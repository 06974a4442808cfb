// What is said where a model is not there, cannot do what is asked, or nobody can.
import type { Ability } from '../capabilities/define.ts';
import type { CapabilityId } from '../capabilities/index.ts';
import { GatewayError } from '../error.ts';
import { mayOffer, offers, START_TEXT, TEXT_MODELS, toStart, withNeeds } from '../offers.ts';
import { nearest, type Place } from './names.ts';
import type { Shelf } from './shelves.ts';

export interface Explain {
  /** `because` says how the name came up, where the caller did not give it. */
  unknown(name: string, because?: string): GatewayError;
  /** A model that is there and cannot. */
  cannot(id: CapabilityId, place: Place, needs: Ability[]): GatewayError;
  nobody(id: CapabilityId, needs: Ability[]): GatewayError;
}

/** What is missing may be on a runtime that is down: another try makes sense after this many seconds. */
const DOWN_S = 30;
/** So much of a name is repeated. */
const MAX_NAME = 120;
const EXAMPLES = 5;

export function createExplain(options: {
  shelves: readonly Shelf[];
  /** Names beside those of models. */
  aliases: () => Iterable<string>;
  /** It is on its way to this machine. */
  isComing: (name: string) => boolean;
}): Explain {
  const { shelves, aliases, isComing } = options;
  const down = () => shelves.filter(({ error }) => error);

  function* known(): Iterable<string> {
    yield* aliases();
    for (const { models } of shelves) for (const { id } of models) yield id;
    for (const { models } of shelves) for (const model of models) yield* model.aliases ?? [];
  }

  function howToGet(name: string): string | undefined {
    const pullable = shelves.some(({ runtime }) => runtime.puller?.claims({ model: name }) !== undefined);
    if (pullable) return `hono-ai models pull ${toWord(name)} (POST /models/pull)`;
    const hint = shelves.map(({ runtime }) => runtime.pullHint?.(name)).find(Boolean);
    return hint?.replace(/\.$/, '');
  }

  function unknown(given: string, because = ''): GatewayError {
    const name = given.length > MAX_NAME ? `${given.slice(0, MAX_NAME)}…` : given;
    const missing = down();
    const coming = isComing(given);
    const near = nearest(given, known());
    const get = howToGet(name);
    const hints = coming
      ? ['It is being fetched: GET /models/pulls tells how far it is.']
      : [
          near.length > 0 ? `Did you mean ${near.join(' or ')}?` : '',
          get ? `To get it: ${get}.` : '',
          missing.length > 0
            ? `${missing.map(({ runtime }) => runtime.name).join(', ')} cannot be reached; ${missing.length > 1 ? 'their' : 'its'} models are missing here.`
            : '',
          because,
        ];
    return new GatewayError('model_not_found', `There is no model “${name}”.`, {
      param: 'model',
      hint: hints.filter(Boolean).join(' ') || 'GET /models lists what there is.',
      ...(missing.length > 0 || coming ? { retryAfter: DOWN_S } : {}),
    });
  }

  function cannot(id: CapabilityId, { shelf: { runtime }, model }: Place, needs: Ability[]): GatewayError {
    const able = examples(id, needs);
    const what = withNeeds(id, mayOffer(model, id, []) ? needs : []);
    return new GatewayError('not_supported', `${model.id} on ${runtime.name} does not offer ${what}.`, {
      param: 'model',
      source: runtime.name,
      hint: able.length > 0 ? `Models that do: ${able.join(', ')}.` : nobody(id, needs).hint!,
    });
  }

  function examples(id: CapabilityId, needs: Ability[]): string[] {
    const able: string[] = [];
    for (const { models } of shelves) {
      for (const model of models) {
        if (!offers(model, id, needs)) continue;
        if (able.push(model.id) === EXAMPLES) return able;
      }
    }
    return able;
  }

  function nobody(id: CapabilityId, needs: Ability[]): GatewayError {
    const [missing] = down();
    const pull = (name: string) => shelves.map(({ runtime }) => runtime.pullHint?.(name)).find(Boolean);
    return new GatewayError('not_supported', `No runtime offers ${withNeeds(id, needs)} now.`, {
      hint: toStart(id, needs) ?? missing?.error?.hint ?? pull(TEXT_MODELS[id] ?? 'llama3.2') ?? START_TEXT,
      ...(missing ? { retryAfter: DOWN_S } : {}),
    });
  }

  return { unknown, cannot, nobody };
}

/** As a shell takes it for one word. */
function toWord(name: string): string {
  return /^[\w.:/@+-]+$/.test(name) ? name : `'${name.replaceAll("'", '’')}'`;
}
