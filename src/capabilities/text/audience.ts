// Who a story is for: the system prompt, opening and sampling of each audience, and the safety bound for children.

export const audiences = ['children', 'young', 'adult'] as const;
export type Audience = (typeof audiences)[number];

export interface AudienceStyle {
  /** For chat models. */
  system: string;
  /** The asking sentence up to the topic. */
  ask: string;
  /** For base models: the words that the story starts with. */
  opening: (topic: string) => string;
  sampling: { temperature: number; top_p: number; top_k: number; repeat_penalty: number };
  /** max_tokens by length. */
  tokens: { short: number; medium: number; long: number };
}

export const styles: Record<Audience, AudienceStyle> = {
  children: {
    system:
      'You tell stories to children from four to eight years. Use short sentences and simple words. The story is warm, safe and hopeful, and ends well. No violence, weapons, death, fear that stays, romance, insults, alcohol, drugs or brand names. Begin with the story itself.',
    ask: 'Tell a story for children about',
    opening: (topic) => `Once upon a time, there was a story about ${topic}. One sunny morning, `,
    sampling: { temperature: 0.6, top_p: 0.85, top_k: 30, repeat_penalty: 1.2 },
    tokens: { short: 120, medium: 220, long: 600 },
  },
  young: {
    system:
      'You write stories for readers from ten to fifteen years: a clear plot, brave people, honest feelings, some danger but nothing cruel or explicit. Begin with the story itself.',
    ask: 'Tell a story for young readers about',
    opening: (topic) => `The morning the adventure of ${topic} began, nobody in the town believed it. `,
    sampling: { temperature: 0.8, top_p: 0.92, top_k: 50, repeat_penalty: 1.15 },
    tokens: { short: 180, medium: 360, long: 1200 },
  },
  adult: {
    system:
      'You write literary short fiction for adults: precise images, subtext, an ending that stays. Begin with the story itself.',
    ask: 'Tell a story for adults about',
    opening: (topic) => `It was the year when everyone talked about ${topic}. `,
    sampling: { temperature: 0.95, top_p: 0.95, top_k: 0, repeat_penalty: 1.05 },
    tokens: { short: 240, medium: 600, long: 2000 },
  },
};

/**
 * What must not be in a story for children, as word stems. A list is a floor, not a judge: it catches what is plainly
 * wrong whichever model wrote it, and errs on the side of refusing.
 */
const UNSAFE = [
  // violence and weapons
  'kill(?:s|ed|er|ers|ing)?',
  'murder\\w*',
  'stab(?:s|bed|bing)?',
  'shot ?guns?',
  'guns?',
  'pistols?',
  'rifles?',
  'bullets?',
  'bombs?',
  'grenades?',
  'blood(?:y|ied|shed)?',
  'corpses?',
  'behead\\w*',
  'strangl\\w*',
  'tortur\\w*',
  'slaughter\\w*',
  'massacr\\w*',
  'terroris\\w*',
  'hang(?:ed|ing) (?:him|her|them)sel(?:f|ves)',
  'suicid\\w*',
  'self[- ]?harm\\w*',
  'executed',
  'rap(?:e|ed|es|ing|ist|ists)',
  'molest\\w*',
  'abus(?:e|ed|es|er|ing)',
  // sex
  'sex(?:y|ual|ually|ed|es|ist)?',
  'naked',
  'nude\\w*',
  'porn\\w*',
  'erotic\\w*',
  'orgasm\\w*',
  'genital\\w*',
  'penis\\w*',
  'vagina\\w*',
  'breasts',
  'nipples?',
  'prostitut\\w*',
  'whore\\w*',
  'slut\\w*',
  // drugs
  'cocaine',
  'heroin',
  'marijuana',
  'cannabis',
  'meth(?:amphetamine)?',
  'opium',
  'drugs?',
  'drunk(?:en)?',
  'whisk(?:e)?y',
  'vodka',
  'beers?',
  'cigarettes?',
  // insults and profanity
  'fuck\\w*',
  'shit\\w*',
  'bitch\\w*',
  'bastards?',
  'asshole\\w*',
  'arsehole\\w*',
  'damn(?:ed|it)?',
  'cunt\\w*',
  'dick(?:head)?s?',
  'pricks?',
  'crap(?:py)?',
  'retard\\w*',
  'nigg\\w*',
  'fag(?:got)?s?',
  'nazi\\w*',
  'hitler',
];

const unsafePattern = new RegExp(`(?<![a-z])(?:${UNSAFE.join('|')})(?![a-z])`);

/** The first unsafe word for children in a text, or undefined. Sees through accents, look-alikes and split letters. */
export function unsafeForChildren(text: string): string | undefined {
  const plain = text
    .normalize('NFKD')
    .replace(/[\u0300-\u036f\u00ad\u200b-\u200f\u2060\ufeff]/g, '')
    .toLowerCase();
  const unmasked = plain
    .replace(/(?<=[a-z@$!013457])[*._-](?=[a-z@$!013457])/g, '')
    .replace(/(?<=\w|\b)[@4](?=\w)/g, 'a')
    .replace(/(?<=\w)[$5](?=\w)|(?<!\w)[$5](?=[a-z])/g, 's')
    .replace(/(?<=[a-z])[!1](?=[a-z])/g, 'i')
    .replace(/(?<=[a-z])0(?=[a-z])/g, 'o')
    .replace(/(?<=[a-z])3(?=[a-z])/g, 'e')
    .replace(/(?<=[a-z])7(?=[a-z])/g, 't');
  const unspaced = plain.replace(/\b(?:[a-z] ){2,}[a-z]\b/g, (spelled) => spelled.replaceAll(' ', ''));
  for (const candidate of [plain, unmasked, unspaced]) {
    const found = unsafePattern.exec(candidate);
    if (found) return found[0];
  }
  return undefined;
}
