// NVIDIA cards, from one nvidia-smi that goes on telling.
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import type { Findings, Found } from './checked.ts';
import { createLines, FIELDS, toComplaint, toRow, type Row } from './nvidia-rows.ts';
import { createSampler, type Failure, type Sampler, type SamplerOptions } from './nvidia-smi.ts';
import type { Tree } from './tree.ts';

export interface NvidiaOptions {
  tree: Tree;
  /** For PATH. */
  env: Record<string, string | undefined>;
  /** Milliseconds; for tests. */
  limits?: SamplerOptions['limits'];
}

export interface Nvidia {
  read(): Promise<Findings & { shares: Set<string> }>;
  close(): void;
}

const EVERY_MS = 1000;
/** A card that was not told of for this long is gone. */
const STALE_MS = 5000;
/** Longest wait for the first values; who cannot wait asks again. */
const FIRST_MS = 900;
/** After a row until the rows of the other cards have come as well. */
const SETTLE_MS = 25;
const LOOK_AGAIN_MS = 30_000;

export function createNvidia({ tree, env, limits }: NvidiaOptions): Nvidia {
  const rows = new Map<string, Row & { at: number }>();
  let sampler: Sampler | undefined;
  let lookedAt = -Infinity;
  /** The first thing it said that was no value, since it started or last said nothing of the kind. */
  let complaint = { text: '', at: -Infinity };
  let fields: readonly string[] = FIELDS;
  let wakes: (() => void)[] = [];
  let closed = false;

  function wake(): void {
    for (const each of wakes) each();
    wakes = [];
  }

  function onLine(line: string): void {
    if (line === '') return;
    const [, uuid = ''] = line.split(/,\s*/, 2);
    const row = toRow(line, fields, rows.get(uuid)?.card);
    if (row) {
      rows.set(row.uuid, { ...row, at: performance.now() });
      setTimeout(wake, SETTLE_MS).unref();
      return;
    }
    const now = performance.now();
    const text = now - complaint.at < STALE_MS ? complaint.text : toComplaint(line);
    complaint = { text, at: now };
  }

  function onFailure(failure: Failure): void {
    // Drivers before 510 have no such field, and refuse the whole question for it.
    if (failure === 'ended' && /compute_cap/.test(complaint.text))
      fields = FIELDS.filter((field) => field !== 'compute_cap');
    wake();
  }

  function open(command: string): Sampler {
    let take = createLines(onLine);
    return createSampler({
      command,
      args: () => {
        complaint = { text: '', at: -Infinity };
        take = createLines(onLine);
        return [`--query-gpu=${fields.join(',')}`, '--format=csv,noheader,nounits', '-lms', String(EVERY_MS)];
      },
      env,
      onText: (piece) => take(piece),
      onFailure,
      ...(limits ? { limits } : {}),
    });
  }

  const fresh = () => [...rows.values()].filter(({ at }) => performance.now() - at < STALE_MS);

  async function problem(seen: boolean): Promise<string | undefined> {
    // One card tells, another one is why it complains.
    if (seen) return performance.now() - complaint.at < STALE_MS ? toComplained(complaint.text) : undefined;
    const loaded = (await tree.has('/proc/driver/nvidia/version')) || (await tree.has('/sys/module/nvidia'));
    if (!sampler)
      return loaded
        ? 'NVIDIA’s driver is loaded, but there is no nvidia-smi here: install the driver’s utilities; in a container, start it with --gpus all.'
        : undefined;
    const failure = sampler.failure();
    if (failure === undefined) return closed ? undefined : 'nvidia-smi has told nothing yet: ask again in a moment.';
    return toProblem(failure, complaint.text, loaded);
  }

  return {
    async read() {
      if (!sampler && !closed && performance.now() - lookedAt > LOOK_AGAIN_MS) {
        lookedAt = performance.now();
        const command = await findCommand(env, tree);
        // Somebody else may have found it meanwhile, or closed this.
        if (command !== undefined && !closed) sampler ??= open(command);
      }
      sampler?.want();
      if (sampler && sampler.failure() === undefined && fresh().length === 0) {
        // This timer keeps the process alive, for nothing else may: somebody waits.
        let timer: ReturnType<typeof setTimeout> | undefined;
        await new Promise<void>((resolve) => {
          wakes.push(resolve);
          timer = setTimeout(resolve, FIRST_MS);
        });
        clearTimeout(timer);
      }
      const known = fresh().toSorted((a, b) => a.card.index - b.card.index);
      const wrong = await problem(known.length > 0);
      return {
        cards: known.map(({ card }): Found => card),
        shares: new Set(known.filter(({ shares }) => shares).map(({ card }) => card.id)),
        problems: wrong === undefined ? [] : [wrong],
      };
    },
    close() {
      closed = true;
      sampler?.close();
      wake();
    },
  };
}

/** Where Windows puts it for the Linux beside it. */
const WSL = '/usr/lib/wsl/lib';

async function findCommand(env: NvidiaOptions['env'], tree: Tree): Promise<string | undefined> {
  const name = process.platform === 'win32' ? 'nvidia-smi.exe' : 'nvidia-smi';
  const folders = (env['PATH'] ?? env['Path'] ?? '').split(delimiter).filter(Boolean);
  if (await tree.has('/dev/dxg')) folders.push(WSL);
  for (const folder of folders) {
    const path = join(folder, name);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

function toProblem(failure: Failure, complaint: string, loaded: boolean): string | undefined {
  // The program without a card or a driver is what is left of one that was there.
  if (!loaded && /no devices were found|communicate with the nvidia driver/i.test(complaint) && failure === 'ended')
    return undefined;
  if (failure === 'silent') return 'nvidia-smi does not answer: the card or its driver hangs; restart the machine.';
  if (failure === 'flood') return 'What is called nvidia-smi here is something else: look at PATH.';
  if (failure === 'missing')
    return 'nvidia-smi cannot be started: look at its permissions; with Deno, allow --allow-run.';
  return toComplained(complaint);
}

function toComplained(complaint: string): string {
  const said =
    complaint === '' ? 'nvidia-smi ended without a word' : `nvidia-smi says “${complaint.replace(/\.$/, '')}”`;
  return `${said}: ${remedyOf(complaint)}`;
}

function remedyOf(complaint: string): string {
  if (/version mismatch/i.test(complaint)) return 'the driver was updated while it ran; restart the machine.';
  if (/communicate with the nvidia driver/i.test(complaint))
    return 'load it with sudo modprobe nvidia; after an update of the kernel, install it again.';
  if (/lost|fallen off|unknown error/i.test(complaint)) return 'the card has stopped; restart the machine.';
  if (/permission/i.test(complaint)) return 'let this user, or this container, use /dev/nvidia*.';
  return 'run nvidia-smi by hand to see more.';
}
