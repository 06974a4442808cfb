// What is wrong with how models sit on the card: on the processor, spilled, crowded out; each in one line with its remedy.
import { runsAsAnother, type Card, type Owner } from '../hardware.ts';

export interface Situation {
  card: Card | undefined;
  /** Of runtimes that use the card where they can. */
  owners: Owner[];
  others: number;
  /** Bytes that the card borrowed of main memory before models were on it, as far as that was seen. */
  gttBefore: number | undefined;
  /** Runtimes that could use a card and say that they compute on the processor. */
  onProcessor: string[];
  /** Runtimes that did not answer: what is told of them is old. */
  silent: string[];
}

/** Less than this is on the processor in any case: what turns words into numbers, and buffers. */
const SHARE_THAT_STAYS = 0.03;
const SPILL = 512 * 1024 ** 2;
const NEARLY_FULL = 0.9;
const CROWDED = 0.15;
const CLAIMED_TOO_MUCH = 1024 ** 3;

export function toWarnings(situation: Situation): string[] {
  const { card, owners, onProcessor, silent } = situation;
  return [
    // What is part of a processor is used by few runtimes; without it they do what they can.
    ...(card && card.kind !== 'integrated' ? onCard({ ...situation, card }) : []),
    ...(card && card.kind !== 'integrated'
      ? onProcessor.map(
          (runtime) =>
            `${runtime} computes on the processor although there is ${card.name}: start it without --cpu. ${remedyOf(card, runtime)}`,
        )
      : []),
    ...silent.map((runtime) =>
      owners.some((owner) => owner.runtime === runtime)
        ? `${runtime} does not answer; what it holds is told as it last was.`
        : `${runtime} does not answer, so what it holds is not known.`,
    ),
  ];
}

function onCard(situation: Situation & { card: Card }): string[] {
  const { card, owners, others, gttBefore } = situation;
  const { used, total } = card.vram;
  const free = total - used;
  const warnings = owners.flatMap((owner) => onProcessorPartly(owner, card, free));
  const spilled = card.gtt && gttBefore !== undefined ? card.gtt.used - gttBefore : 0;
  if (used >= total * NEARLY_FULL && spilled >= SPILL) {
    warnings.push(
      `${toGiB(spilled)} have spilled from ${card.name} into main memory, which is about ten times slower: unload a model, or use a smaller one.`,
    );
  }
  if (free < total * CROWDED && others > total / 4) {
    warnings.push(
      `Programs that are no runtime of this gateway hold ${toGiB(others)} of ${toGiB(total)}: close them to make room for models.`,
    );
  }
  const claimed = owners.reduce((sum, { vram, basis }) => sum + (basis === 'measured' ? vram : 0), 0);
  if (claimed - used > CLAIMED_TOO_MUCH) {
    warnings.push(
      `Runtimes hold ${toGiB(claimed)}, but only ${toGiB(used)} of ${card.name} are in use: one of them is on another card or machine. HONO_AI_GPU says which card counts.`,
    );
  }
  return warnings;
}

function onProcessorPartly({ model, runtime, vram, ram }: Owner, card: Card, free: number): string[] {
  if (model === null || ram === null || ram <= (vram + ram) * SHARE_THAT_STAYS) return [];
  const room =
    free < ram
      ? `only ${toGiB(free)} of the card are free: unload what else is on it, and load it again; or use a smaller quantization or a shorter context.`
      : undefined;
  if (vram === 0) return [`${model} on ${runtime} runs wholly on the processor: ${room ?? remedyOf(card, runtime)}`];
  return [
    `${model} on ${runtime} runs partly on the processor, several times slower: ${toGiB(ram)} of its ${toGiB(vram + ram)} are in main memory; ${
      room ?? 'load it again, with a shorter context or a smaller quantization.'
    }`,
  ];
}

/** Why a card that is there and has room is not taken. */
function remedyOf({ vendor, architecture, name }: Card, runtime: string): string {
  if (vendor === 'nvidia')
    return `Let ${runtime} have ${name} (in a container: --gpus all), and look for CUDA in its log.`;
  if (vendor !== 'amd') return `Look in the log of ${runtime} for why it does not take ${name}.`;
  const built = `ROCm did not take ${name} (${architecture ?? 'of an unknown architecture'})`;
  if (runsAsAnother({ architecture })) {
    return `${built}: set HSA_OVERRIDE_GFX_VERSION=10.3.0 for ${runtime} and restart it, or use its Vulkan build.`;
  }
  if (architecture?.startsWith('gfx101'))
    return `${built}: it has nothing for that; use the Vulkan build of ${runtime}.`;
  return `${built}: give ${runtime} /dev/kfd and /dev/dri and the groups video and render; hono-ai doctor looks at each.`;
}

function toGiB(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
