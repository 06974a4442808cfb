// Which files of a repository make up the model that is meant: the quantization asked for, all of its parts, and its eyes.
import { GatewayError } from '../../../src/error.ts';
import type { HubFile } from '../../downloads/hub.ts';

/** Most people's choice first. */
const USUAL = ['Q4_K_M', 'Q4_K_S', 'UD-Q4_K_XL', 'Q4_0', 'Q5_K_M', 'Q5_K_S', 'Q8_0'];
const QUANT = /(?:^|[-._/])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|BF16|F16|F32|FP16|MXFP4(?:_MOE)?))(?=[-._/]|$)/i;
const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;
/** Quantizations that an error names. */
const TOLD = 12;

export interface Chosen {
  quant: string | undefined;
  /** In their order. */
  weights: HubFile[];
  /** What makes it see, where the repository has that. */
  projector: HubFile | undefined;
}

/** Throws model_not_found, not_supported. */
export function chooseFiles(files: HubFile[], repo: string, quant: string | undefined, source: string): Chosen {
  const ggufs = files.filter(({ path }) => /\.gguf$/i.test(path) && !/imatrix/i.test(path));
  const projectors = ggufs.filter(({ path }) => /mmproj/i.test(path));
  const models = ggufs.filter(({ path }) => !/mmproj/i.test(path));
  if (models.length === 0) {
    throw new GatewayError('not_supported', `${repo} holds no GGUF file, which is all that Ollama runs.`, {
      param: 'model',
      source,
      hint: 'Look for a repository with GGUF in its name: `models search`.',
    });
  }
  const groups = new Map<string, HubFile[]>();
  for (const file of models) {
    const key = file.path.replace(PART, '');
    groups.set(key, [...(groups.get(key) ?? []), file]);
  }
  const found = pick([...groups.values()], quant);
  if (!found) throw noSuchQuant(repo, quant!, models, source);
  const weights = found.toSorted((one, other) => (one.path < other.path ? -1 : 1));
  const parts = Number(PART.exec(weights[0]!.path)?.[2] ?? 1);
  if (parts !== weights.length) {
    throw new GatewayError('model_not_found', `${repo} lacks parts of ${quant ?? 'this model'}.`, {
      param: 'model',
      source,
      hint: 'Choose another quantization of it.',
    });
  }
  return { quant: quantOf(weights[0]!.path), weights, projector: bestProjector(projectors) };
}

function pick(groups: HubFile[][], quant: string | undefined): HubFile[] | undefined {
  const named = (wanted: string) =>
    groups.find(([file]) => quantOf(file!.path)?.toLowerCase() === wanted.toLowerCase());
  if (quant !== undefined && quant.toLowerCase() !== 'latest') {
    return named(quant) ?? groups.find(([file]) => toBase(file!.path).toLowerCase().endsWith(quant.toLowerCase()));
  }
  for (const usual of USUAL) {
    const group = named(usual);
    if (group) return group;
  }
  const sizeOf = (group: HubFile[]) => group.reduce((sum, { size }) => sum + size, 0);
  return groups.toSorted((one, other) => sizeOf(one) - sizeOf(other))[0];
}

export function quantOf(path: string): string | undefined {
  return QUANT.exec(toBase(path))?.[1]?.toUpperCase();
}

/** At 16 bits: eyes are small, and lose more than weights do. */
function bestProjector(files: HubFile[]): HubFile | undefined {
  return files.find(({ path }) => /(?<!b)f16|fp16/i.test(path)) ?? files[0];
}

function toBase(path: string): string {
  return path
    .replace(PART, '')
    .replace(/\.gguf$/i, '')
    .split('/')
    .at(-1)!;
}

function noSuchQuant(repo: string, quant: string, files: HubFile[], source: string): GatewayError {
  const known = [...new Set(files.flatMap(({ path }) => quantOf(path) ?? []))].slice(0, TOLD);
  return new GatewayError('model_not_found', `${repo} has no ${quant}.`, {
    param: 'model',
    source,
    hint: known.length > 0 ? `It has ${known.join(', ')}.` : 'Leave the quantization out.',
  });
}
