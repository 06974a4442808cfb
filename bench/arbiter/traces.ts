// node bench/arbiter/traces.ts --write: makes the traces that are shipped, the same for the same seeds.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createHousehold, type Household } from './household.ts';
import type { Row } from './trace.ts';

interface Workload {
  seed: number;
  fill: (home: Household) => void;
}

/** Seconds. */
const THREE_HOURS = 10_800;

export const workloads: Readonly<Record<string, Workload>> = {
  // Two people type, one talks, one draws in bursts.
  'chat-with-image-bursts': {
    seed: 1,
    fill(home) {
      chats(home, 2);
      voices(home, 1);
      paints(home, 1, { flux: 0.3 });
    },
  },
  // A script asks for picture after picture; three people type now and then, two talk.
  'one-heavy-many-light': {
    seed: 2,
    fill(home) {
      for (let at = 60 + home.pause(100); at < THREE_HOURS; at += 400 + home.pause(400)) {
        const model = home.random() < 0.5 ? 'flux' : 'sdxl';
        const clicks = home.pick(14, 24) >> (model === 'flux' ? 1 : 0);
        at = home.paint(at, 'heavy', { clicks, model, look: 4 });
      }
      chats(home, 3, { pause: 700 });
      voices(home, 2, { pause: 500 });
    },
  },
  // An evening of chats, talk and pictures; then a script hands in two videos at a time, and one who cannot sleep types on.
  'video-over-night': {
    seed: 3,
    fill(home) {
      const until = THREE_HOURS + 7200;
      chats(home, 2);
      voices(home, 2);
      paints(home, 1, { flux: 0.5 });
      for (let at = THREE_HOURS; at < until; at += 500 * (0.8 + 0.4 * home.random())) {
        for (let one = 0; one < 2; one++) home.ask(at + one, 'video', 'night');
      }
      for (let at = THREE_HOURS + home.pause(400); at < until; at += 60 + home.pause(500)) {
        at = home.chat(at, 'owl', { turns: home.pick(3, 8), aloud: 0.3 });
      }
    },
  },
  // Two people talk with the house, two type, one draws.
  'speech-between-chats': {
    seed: 4,
    fill(home) {
      chats(home, 2);
      voices(home, 2);
      paints(home, 1, { flux: 0.5 });
    },
  },
  // Two have stories told: a page, its picture, the next page, read aloud meanwhile; two talk.
  pipelines: {
    seed: 5,
    fill(home) {
      stories(home, 2, { rest: 300, least: 2, most: 4, isAloud: true });
      voices(home, 2, { pause: 300 });
    },
  },
  // Built to hurt: each request comes just when its model was thrown out for the other; small ones that whoever evicts the cheapest always hits; one who is rare.
  adversarial: {
    seed: 6,
    fill(home) {
      stories(home, 1, { rest: 250, least: 3, most: 5 });
      voices(home, 2);
      for (let at = 500; at < THREE_HOURS; at += 1500) home.ask(at + home.random() * 60, 'sdxl', 'victim');
    },
  },
  // Two people type, one talks, one draws, one has stories told, one searches his papers.
  mixed: {
    seed: 7,
    fill(home) {
      chats(home, 2, { pause: 400 });
      voices(home, 1, { pause: 300 });
      paints(home, 1, { flux: 0.3, rest: 300 });
      searches(home, 700);
      stories(home, 1, { rest: 350, least: 2, most: 4, isAloud: true });
    },
  },
};

/** All for three hours. `pause`, `rest`: seconds between sessions, beside a minute or so. */
function chats(home: Household, people: number, { pause = 300 } = {}): void {
  for (let one = 0; one < people; one++) {
    for (let at = home.pause(200); at < THREE_HOURS; at += 60 + home.pause(pause)) {
      at = home.chat(at, `chat-${one}`, { turns: home.pick(3, 8), aloud: 0.3 });
    }
  }
}

function voices(home: Household, people: number, { pause = 200 } = {}): void {
  for (let one = 0; one < people; one++) {
    for (let at = home.pause(200); at < THREE_HOURS; at += 60 + home.pause(pause)) {
      at = home.talk(at, `voice-${one}`, { turns: home.pick(3, 8) });
    }
  }
}

/** `flux`: share of the sessions that are drawn with the larger model. */
function paints(home: Household, people: number, { flux, rest = 150 }: { flux: number; rest?: number }): void {
  for (let one = 0; one < people; one++) {
    for (let at = home.pause(300); at < THREE_HOURS; at += rest + home.pause(300)) {
      const clicks = home.pick(3, 8);
      const model = home.random() < flux ? 'flux' : 'sdxl';
      at = home.paint(at, `paint-${one}`, { clicks, model, look: 15, pictures: home.pick(1, 2) });
    }
  }
}

interface Stories {
  rest: number;
  /** Pages. */
  least: number;
  most: number;
  isAloud?: boolean;
}

function stories(home: Household, people: number, { rest, least, most, isAloud = false }: Stories): void {
  for (let one = 0; one < people; one++) {
    for (let at = 100 + home.pause(300); at < THREE_HOURS; at += rest + home.pause(2 * rest)) {
      at = home.story(at, `story-${one}`, { pages: home.pick(least, most), isAloud });
    }
  }
}

/** Many pieces of paper at once, then the answer. */
function searches(home: Household, gap: number): void {
  for (let at = home.pause(gap); at < THREE_HOURS; at += gap * 0.6 + home.pause(gap * 0.8)) {
    let now = at;
    for (let pieces = home.pick(5, 25); pieces > 0; pieces--, now += home.pause(0.3)) home.ask(now, 'embed', 'search');
    home.ask(now + 1, 'llm-8b', 'search');
  }
}

export function makeTrace(name: string, seed = workloads[name]!.seed): Row[] {
  const home = createHousehold(seed);
  workloads[name]!.fill(home);
  return home.rows();
}

export function toJsonLines(rows: readonly Row[]): string {
  return rows.map((row) => `${JSON.stringify({ ...row, runtime: undefined })}\n`).join('');
}

if (process.argv[1] === import.meta.filename && process.argv.includes('--write')) {
  const folder = join(import.meta.dirname, 'traces');
  mkdirSync(folder, { recursive: true });
  for (const name of Object.keys(workloads)) {
    const rows = makeTrace(name);
    writeFileSync(join(folder, `${name}.jsonl`), toJsonLines(rows));
    process.stderr.write(`${name}: ${rows.length} requests\n`);
  }
}
