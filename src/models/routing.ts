// Names that callers use → models: aliases, defaults and chains, from the configuration and as changed while the gateway runs.
import { capabilities, type CapabilityId } from '../capabilities/index.ts';
import { GatewayError } from '../error.ts';
import type { DocumentStore } from '../store.ts';
import { within } from '../timers.ts';
import { findCircle } from './choices.ts';
import type { Choice } from './views.ts';

export interface Routing {
  aliases(): ReadonlyMap<string, Choice>;
  defaults(): ReadonlyMap<CapabilityId, Choice>;
  /** All of those set while running, in place of what was; or some of them, null to remove one. Throws invalid_request for a circle or a capability that is none. */
  setAliases(aliases: Record<string, Choice | null>, how: 'replace' | 'merge'): Promise<void>;
  setDefaults(defaults: Record<string, Choice | null>, how: 'replace' | 'merge'): Promise<void>;
  version(): number;
  load(): Promise<void>;
  /** Where it was long not looked whether another gateway on this store changed something: resolves when it was. Never throws. */
  fresh(): Promise<void> | undefined;
}

export interface RoutingOptions {
  documents: DocumentStore;
  /** From the configuration; what is set while running goes before it. */
  aliases: Record<string, Choice>;
  defaults: Partial<Record<CapabilityId, Choice>>;
}

type Choices = Record<string, Choice>;
type Kind = 'aliases' | 'defaults';

/** One of the two maps: what is set, on top of what is configured. */
interface Layer {
  configured: Choices;
  set: Choices;
  /** Of its document; undefined where there is none. */
  version: number | undefined;
  merged: ReadonlyMap<string, Choice>;
}

const KIND = 'routing';
const OWNER = 'owner';
/** What another gateway has changed is seen after this many milliseconds. */
const FRESH_MS = 2000;
/** Longest wait for a store to tell, in milliseconds; what it tells later counts then. */
const PATIENCE_MS = 500;
const MAX_NAMES = 1000;
const TRIES = 10;
/** They stand for something already. */
const RESERVED = new Set(['default', 'auto', 'warm']);

export function createRouting({ documents, aliases, defaults }: RoutingOptions): Routing {
  const layers: Record<Kind, Layer> = { aliases: toLayer(aliases), defaults: toLayer(defaults as Choices) };
  let version = 0;
  let readAt = -Infinity;
  let reading: Promise<void> | undefined;

  function put(layer: Layer, set: Choices, documentVersion: number | undefined): void {
    if (layer.version === documentVersion) return;
    Object.assign(layer, { set, version: documentVersion, merged: toMap({ ...layer.configured, ...set }) });
    version++;
  }

  async function read(kind: Kind): Promise<void> {
    const document = await documents.get<Choices>(KIND, kind);
    put(layers[kind], document?.value ?? {}, document?.version);
  }

  async function load(): Promise<void> {
    await Promise.all([read('aliases'), read('defaults')]);
    readAt = performance.now();
  }

  function fresh(): Promise<void> | undefined {
    if (reading) return reading;
    if (performance.now() - readAt < FRESH_MS) return undefined;
    // A store that is away does not keep anybody from asking what is known.
    reading = within(PATIENCE_MS, load())
      .catch(() => {})
      .finally(() => {
        readAt = performance.now();
        reading = undefined;
      });
    return reading;
  }

  async function change(kind: Kind, changes: Record<string, Choice | null>, how: 'replace' | 'merge'): Promise<void> {
    const layer = layers[kind];
    for (let attempt = 0; attempt < TRIES; attempt++) {
      await read(kind);
      const set = toSet(how === 'merge' ? layer.set : {}, changes);
      check(kind, { ...layer.configured, ...set });
      const conflict = await documents.put([
        { kind: KIND, id: kind, owner: OWNER, value: set, if: layer.version ?? 'absent' },
      ]);
      if (!conflict) return await read(kind);
    }
    throw new GatewayError('conflict', `Others change the ${kind} at the same time.`, { retryAfter: 1 });
  }

  return {
    aliases: () => layers.aliases.merged,
    defaults: () => layers.defaults.merged as ReadonlyMap<CapabilityId, Choice>,
    setAliases: (changes, how) => change('aliases', changes, how),
    setDefaults: (changes, how) => change('defaults', changes, how),
    version: () => version,
    load,
    fresh,
  };
}

function check(kind: Kind, choices: Choices): void {
  const names = Object.keys(choices);
  const refuse = (param: string, message: string, hint?: string) =>
    new GatewayError('invalid_request', message, { param, ...(hint ? { hint } : {}) });
  if (names.length > MAX_NAMES) throw refuse(kind, `There can be ${MAX_NAMES} ${kind}, no more.`);
  if (kind === 'defaults') {
    const foreign = names.find((name) => !Object.hasOwn(capabilities, name) || capabilities[name as CapabilityId].own);
    if (foreign === undefined) return;
    const known = Object.values(capabilities).filter(({ own }) => !own);
    throw refuse(
      foreign,
      `No model can be asked for “${foreign}”.`,
      `There are ${known.map(({ id }) => id).join(', ')}.`,
    );
  }
  const taken = names.find((name) => RESERVED.has(name));
  if (taken !== undefined) throw refuse(taken, `“${taken}” always means the same and cannot be an alias.`);
  const circle = findCircle(toMap(choices));
  if (circle) {
    throw refuse(
      circle[0]!,
      `The aliases lead back to where they came from: ${circle.join(' → ')}.`,
      'Break the circle.',
    );
  }
}

function toSet(before: Choices, changes: Record<string, Choice | null>): Choices {
  const set = new Map(Object.entries(before));
  for (const [name, choice] of Object.entries(changes)) {
    if (choice === null) set.delete(name);
    else set.set(name, choice);
  }
  return Object.fromEntries(set);
}

function toLayer(configured: Choices): Layer {
  return { configured, set: {}, version: undefined, merged: toMap(configured) };
}

function toMap(choices: Choices): Map<string, Choice> {
  return new Map(Object.entries(choices));
}
