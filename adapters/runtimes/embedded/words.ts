// What tiny-t2i understands of a prompt: one colour, one object and one scene.

/** As trained; see models/train/img/scenes.py. */
export const vocabulary = {
  colour: ['red', 'blue', 'green', 'yellow', 'orange', 'purple', 'white', 'black', 'pink', 'brown'],
  object: ['house', 'tree', 'boat', 'star', 'heart', 'flower', 'mountain', 'fish', 'car', 'balloon', 'cat', 'robot'],
  scene: ['day', 'night', 'sunset', 'sea', 'snow', 'desert', 'forest'],
} as const;

type Kind = keyof typeof vocabulary;

export interface Understood {
  /** In the order of the prompt, at most one of each kind. */
  used: string[];
  /** Known words for which there was no place any more: a second colour, object or scene. */
  surplus: string[];
  /** Words that the network was never shown. */
  unknown: string[];
}

/** Other words for nearly the same thing; what a picture of 64 pixels cannot tell apart. */
const SYNONYMS: Record<string, string> = {
  ...same('red', 'crimson scarlet ruby'),
  ...same('blue', 'azure navy'),
  ...same('green', 'emerald'),
  ...same('yellow', 'golden'),
  ...same('purple', 'violet lilac lavender'),
  ...same('pink', 'magenta'),
  ...same('house', 'home hut cottage cabin'),
  ...same('tree', 'oak pine'),
  ...same('boat', 'ship sailboat'),
  ...same('flower', 'rose tulip daisy blossom'),
  ...same('mountain', 'mount peak hill'),
  ...same('fish', 'goldfish'),
  ...same('car', 'automobile'),
  ...same('cat', 'kitten kitty'),
  ...same('robot', 'android droid'),
  ...same('day', 'daytime daylight noon sunny'),
  ...same('night', 'nighttime midnight nocturnal moonlit moonlight'),
  ...same('sunset', 'sundown dusk evening twilight'),
  ...same('sea', 'ocean seaside'),
  ...same('snow', 'snowy winter'),
  ...same('desert', 'dune'),
  ...same('forest', 'wood woodland jungle'),
};

/** Words that say nothing by themselves: nobody needs to be told that they were not painted. */
const FILLERS = new Set(
  'a an the of in on at by to for from with without near under over and or is are it its there some one as into this that please draw paint picture image photo painting drawing'.split(
    ' ',
  ),
);

const KINDS = new Map<string, Kind>(
  Object.entries(vocabulary).flatMap(([kind, words]) => words.map((word) => [word as string, kind as Kind] as const)),
);

export function understand(prompt: string): Understood {
  const taken = new Map<Kind, string>();
  const surplus = new Set<string>();
  const unknown = new Set<string>();
  for (const word of prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []) {
    const known = toKnown(word);
    if (known === undefined) {
      if (!FILLERS.has(word)) unknown.add(word);
      continue;
    }
    const kind = KINDS.get(known)!;
    if (!taken.has(kind)) taken.set(kind, known);
    else if (taken.get(kind) !== known) surplus.add(known);
  }
  return { used: [...taken.values()], surplus: [...surplus], unknown: [...unknown] };
}

/** The word itself, its singular, or what it is another word for. */
function toKnown(word: string): string | undefined {
  const forms = [word];
  if (word.endsWith('ies')) forms.push(`${word.slice(0, -3)}y`);
  if (word.endsWith('es')) forms.push(word.slice(0, -2));
  if (word.endsWith('s')) forms.push(word.slice(0, -1));
  for (const form of forms) {
    if (KINDS.has(form)) return form;
    // Not a plain look-up: "constructor" is a word too.
    if (Object.hasOwn(SYNONYMS, form)) return SYNONYMS[form];
  }
  return undefined;
}

function same(word: string, others: string): Record<string, string> {
  return Object.fromEntries(others.split(' ').map((other) => [other, word]));
}
