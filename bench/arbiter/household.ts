// The people of the traces that are shipped: what they ask for, how long that takes, and how long they think in between.
import type { Class, Row } from './trace.ts';

interface Kind {
  capability: string;
  /** GB. */
  vram: number;
  /** Seconds. */
  load: number;
  run: number;
  /** Standard deviation of runs, against their mean. */
  spread: number;
  class: Class;
}

/** As on one card of 12 GB. */
const MODELS = {
  'llm-3b': { capability: 'text.generate', vram: 3, load: 2, run: 2, spread: 0.6, class: 'interactive' },
  'llm-8b': { capability: 'text.generate', vram: 6.2, load: 4, run: 6, spread: 0.8, class: 'interactive' },
  'llm-14b': { capability: 'text.generate', vram: 9.6, load: 7, run: 10, spread: 0.8, class: 'interactive' },
  embed: { capability: 'text.embed', vram: 0.6, load: 0.8, run: 0.06, spread: 0.3, class: 'interactive' },
  tts: { capability: 'speech.generate', vram: 1.8, load: 2.5, run: 2.2, spread: 0.6, class: 'interactive' },
  stt: { capability: 'speech.transcribe', vram: 1.6, load: 2, run: 1.5, spread: 0.6, class: 'interactive' },
  sdxl: { capability: 'image.generate', vram: 7.2, load: 8, run: 8, spread: 0.15, class: 'normal' },
  flux: { capability: 'image.generate', vram: 9.8, load: 14, run: 28, spread: 0.15, class: 'normal' },
  video: { capability: 'video.generate', vram: 10.6, load: 18, run: 110, spread: 0.3, class: 'background' },
} satisfies Record<string, Kind>;

export type Model = keyof typeof MODELS;

/** Times are in seconds. All of them return when the last thing that was asked for would be done on a card of one's own. */
export interface Household {
  /** From 0 to 1. */
  random(): number;
  /** Mostly short, sometimes long, `mean` on average. */
  pause(mean: number): number;
  /** A whole number from `least` to `most`. */
  pick(least: number, most: number): number;
  ask(at: number, model: Model, caller: string, of?: Class): number;
  /** So many turns, each read and answered; some are read aloud. Ends when the last was thought about. */
  chat(at: number, caller: string, how: { turns: number; model?: Model; think?: number; aloud?: number }): number;
  /** Heard, answered and spoken, so many times. */
  talk(at: number, caller: string, how: { turns: number; model?: Model; think?: number }): number;
  /** So many clicks for so many pictures each, looked at before the next. */
  paint(at: number, caller: string, how: { clicks: number; model?: Model; look?: number; pictures?: number }): number;
  /** A page is written, then painted, then the next; read aloud while it is painted. */
  story(at: number, caller: string, how: { pages: number; model?: Model; isAloud?: boolean }): number;
  /** In the order of arrival, to some milliseconds. */
  rows(): Row[];
}

export function createHousehold(seed: number): Household {
  const random = createRandom(seed);
  const rows: Row[] = [];
  const pause = (mean: number) => -Math.log(1 - random()) * mean;

  /** Log-normal: runs of one model differ, few by much. */
  function toRun({ run, spread }: Kind): number {
    const variance = Math.log(1 + spread * spread);
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return run * Math.exp(normal * Math.sqrt(variance) - variance / 2);
  }

  function ask(at: number, model: Model, caller: string, of?: Class): number {
    const kind: Kind = MODELS[model];
    const { capability, vram, load } = kind;
    const run = toRun(kind);
    rows.push({ at, caller, capability, model, runtime: 'card', vram, load, run, class: of ?? kind.class });
    return at + run;
  }

  return {
    random,
    pause,
    pick: (least, most) => least + Math.floor(random() * (most - least + 1)),
    ask,
    chat(at, caller, { turns, model = 'llm-8b', think = 20, aloud = 0 }) {
      let now = at;
      for (let turn = 0; turn < turns; turn++) {
        const end = ask(now, model, caller);
        if (random() < aloud) ask(end + 0.5, 'tts', caller);
        now = end + 5 + pause(think);
      }
      return now;
    },
    talk(at, caller, { turns, model = 'llm-3b', think = 10 }) {
      let now = at;
      for (let turn = 0; turn < turns; turn++) {
        const heard = ask(now, 'stt', caller) + 0.3;
        const answered = ask(heard, model, caller) + 0.3;
        now = ask(answered, 'tts', caller) + 4 + pause(think);
      }
      return now;
    },
    paint(at, caller, { clicks, model = 'sdxl', look = 10, pictures = 1 }) {
      let now = at;
      for (let click = 0; click < clicks; click++) {
        let end = now;
        for (let one = 0; one < pictures; one++) end = Math.max(end, ask(now + one * 0.2, model, caller));
        now = end + 3 + pause(look);
      }
      return now;
    },
    story(at, caller, { pages, model = 'flux', isAloud = false }) {
      let now = at;
      for (let page = 0; page < pages; page++) {
        const written = ask(now, 'llm-8b', caller) + 0.5;
        if (isAloud) ask(written, 'tts', caller);
        now = ask(written, model, caller) + 0.5;
      }
      return now;
    },
    rows: () =>
      rows
        .toSorted((a, b) => a.at - b.at)
        .map((row) => ({ ...row, at: Number(row.at.toFixed(2)), run: Number(Math.max(0.001, row.run).toFixed(3)) })),
  };
}

/** Mulberry32: the same numbers for the same seed on every engine. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
