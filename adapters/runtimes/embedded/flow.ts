// Makes pictures with a rectified-flow network inside a worker: noise, moved step by step along the velocities that the network gives.
import { readFile } from 'node:fs/promises';
import type { Engine } from './engine.ts';
import { createNoise } from './noise.ts';
import type { FlowFiles, PaintTask, Pixels } from './wire.ts';

/** Pixels on a side, as trained. */
export const SIDE = 64;
const CHANNELS = 3;
const AREA = SIDE * SIDE;
/** How many words the network takes at once. */
export const SLOTS = 3;

export interface PaintControl {
  cancelled(): boolean;
  step(done: number, total: number): void;
  look(pixels: Pixels): void;
}

export interface LoadedFlow {
  /** Fewer pictures than seeds only where it was cancelled. */
  paint(task: PaintTask, control: PaintControl): Promise<Pixels[]>;
  dispose(): Promise<void>;
}

export async function loadFlow({ open, Tensor }: Engine, files: FlowFiles): Promise<LoadedFlow> {
  const session = await open(new Uint8Array(await readFile(files.path)));

  async function velocity(sample: Float32Array, time: number, words: readonly number[]): Promise<Float32Array> {
    const { velocity: output } = await session.run({
      sample: new Tensor('float32', sample, [1, CHANNELS, SIDE, SIDE]),
      timestep: new Tensor('float32', Float32Array.of(time), [1]),
      ids: new Tensor('int64', BigInt64Array.from(words, BigInt), [1, SLOTS]),
    });
    return output!.data as Float32Array;
  }

  /** Towards the words and away from what the network makes without any; each run by itself, since 8-bit scales are shared in a batch. */
  async function guided(sample: Float32Array, time: number, { words, guidance }: PaintTask): Promise<Float32Array> {
    const nothing = words.map(() => 0);
    if (guidance === 0) return velocity(sample, time, nothing);
    const towards = await velocity(sample, time, words);
    if (guidance === 1) return towards;
    const from = await velocity(sample, time, nothing);
    return towards.map((value, at) => from[at]! + guidance * (value - from[at]!));
  }

  return {
    async paint(task, control) {
      const { seeds, steps, previewEvery } = task;
      const pictures: Pixels[] = [];
      for (const seed of seeds) {
        const noise = createNoise(seed);
        const sample = Float32Array.from({ length: CHANNELS * AREA }, noise);
        for (let step = 0; step < steps; step++) {
          if (control.cancelled()) return pictures;
          const time = step / steps;
          const course = await guided(sample, time, task);
          if (step > 0 && step % previewEvery === 0) {
            // Where this course would end, which shows more than the noise on the way.
            control.look(toPixels(sample.map((value, at) => value + course[at]! * (1 - time))));
          }
          for (let at = 0; at < sample.length; at++) sample[at]! += course[at]! / steps;
          control.step(pictures.length * steps + step + 1, seeds.length * steps);
        }
        pictures.push(toPixels(sample));
      }
      return pictures;
    },
    dispose: () => session.release(),
  };
}

/** Channels one after the other, -1 to 1 → RGB bytes. */
function toPixels(sample: Float32Array): Pixels {
  const pixels = new Uint8Array(CHANNELS * AREA);
  for (let at = 0; at < AREA; at++) {
    for (let channel = 0; channel < CHANNELS; channel++) {
      const value = (sample[channel * AREA + at]! + 1) * 127.5;
      pixels[at * CHANNELS + channel] = Math.round(Math.min(255, Math.max(0, value)));
    }
  }
  return pixels;
}
