// Models for LM Studio: it downloads them itself, as jobs that tell how far they are.
import { GatewayError } from '../../../../src/error.ts';
import type { Puller, PullEvent, PullWant } from '../../../../src/puller.ts';
import { cancelled, notOpenAI } from '../failure.ts';
import { pause } from '../films.ts';
import { act, toCount, worked } from './asking.ts';
import { LIST, listStudio, toFailure } from './lm-studio-list.ts';
import type { ManagerParts } from './manager.ts';
import { takesWeights, toRepository } from './wanted.ts';

interface Download {
  job_id?: unknown;
  status?: unknown;
  total_size_bytes?: unknown;
  downloaded_bytes?: unknown;
  bytes_per_second?: unknown;
}

const DOWNLOAD = `${LIST}/download`;
const SURE = 60;
const A_TRY = 10;

export function createStudioPuller({ name, upstream, limits, pauseMs }: ManagerParts): Omit<Puller, 'runtime'> {
  const keys = async (signal: AbortSignal) => (await listStudio(upstream, signal)).map(({ key }) => key);

  async function begin(want: PullWant, signal: AbortSignal): Promise<Download> {
    const { repo, tag, named } = toWanted(want, name);
    // By its name it is looked up in LM Studio's own library first.
    const model = named ? `https://huggingface.co/${repo}` : repo;
    const json = { model, ...(tag === undefined ? {} : { quantization: tag }) };
    const said = await act(upstream, DOWNLOAD, { json, signal });
    if (said.status === 404 && /unexpected endpoint/i.test(said.text)) throw tooOld(name);
    if (!worked(said)) throw toFailure(upstream, said.status, said.text);
    return parse(said.text, name);
  }

  async function* follow(first: Download, signal: AbortSignal): AsyncGenerator<PullEvent> {
    const job = typeof first.job_id === 'string' ? encodeURIComponent(first.job_id) : undefined;
    let { status } = first;
    let last = { done: -1, at: Date.now() };
    while (status !== 'completed' && status !== 'already_downloaded') {
      if (status === 'failed') throw failed(name);
      if (job === undefined || (status !== 'downloading' && status !== 'paused')) throw notOpenAI(name);
      await pause(pauseMs, signal);
      const now = await upstream.control<Download>(`${DOWNLOAD}/status/${job}`, { signal });
      if (now.status === 'paused' && status !== 'paused') {
        yield { type: 'warning', warning: `The download is paused in ${name}; it can be resumed only there.` };
      }
      status = now.status;
      const total = toCount(now.total_size_bytes) ?? toCount(first.total_size_bytes) ?? 0;
      const done = Math.min(toCount(now.downloaded_bytes) ?? 0, total);
      if (done !== last.done || status === 'paused') {
        const rate = toCount(now.bytes_per_second);
        if (done !== last.done && total > 0) {
          yield { type: 'progress', done, total, unit: 'bytes', ...(rate ? { rate } : {}) };
        }
        last = { done, at: Date.now() };
      } else if (status === 'downloading' && Date.now() - last.at > limits.idleMs) throw stalled(name, limits.idleMs);
    }
  }

  return {
    claims(want) {
      const wanted = takesWeights(want) ? toRepository(want) : undefined;
      return wanted && (wanted.named && /gguf|mlx/i.test(wanted.repo) ? SURE : A_TRY);
    },
    async plan(want, signal) {
      const { repo, tag, named } = toWanted(want, name);
      const present = (await keys(signal)).includes(repo);
      return {
        model: repo,
        files: [],
        ...(present ? { bytes: 0 } : {}),
        ...(named ? { source: `https://huggingface.co/${repo}` } : {}),
        facts: tag === undefined ? {} : { quantization: tag },
        warnings: present ? [] : [`${name} downloads it itself and tells its size only then.`],
      };
    },
    async *pull(want, signal) {
      if (signal.aborted) throw cancelled();
      const before = new Set(await keys(signal));
      const first = await begin(want, signal);
      if (first.status !== 'already_downloaded') {
        yield { type: 'status', state: 'running', message: `${name} downloads ${want.model}` };
        yield {
          type: 'warning',
          warning: `${name} cannot be told to stop: a download that is cancelled here goes on there.`,
        };
      }
      yield* follow(first, signal);
      const { repo } = toWanted(want, name);
      const now = await keys(signal);
      // Some get another name there than they have at Hugging Face.
      const fresh = now.filter((key) => !before.has(key));
      const model =
        now.find((key) => key.toLowerCase() === repo.toLowerCase()) ?? (fresh.length === 1 ? fresh[0]! : repo);
      const size = toCount(first.total_size_bytes);
      yield { type: 'pulled', model, files: size ? [{ name: model, size }] : [] };
    },
  };
}

function toWanted(want: PullWant, source: string) {
  const wanted = takesWeights(want) ? toRepository(want) : undefined;
  if (wanted) return wanted;
  throw new GatewayError('not_supported', `${source} gets models of its library and repositories of Hugging Face.`, {
    source,
    param: 'source',
    hint: 'Name one, for example hf.co/lmstudio-community/gemma-3-4b-it-GGUF:Q4_K_M.',
  });
}

function parse(text: string, source: string): Download {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  } catch (cause) {
    throw notOpenAI(source, cause);
  }
  throw notOpenAI(source);
}

function failed(source: string): GatewayError {
  return new GatewayError('upstream_terminated', `${source} gave up the download.`, {
    source,
    hint: `Ask again; the downloads page of ${source} tells why it ended.`,
  });
}

function stalled(source: string, ms: number): GatewayError {
  return new GatewayError('upstream_idle', `The download brought nothing for ${Math.round(ms / 1000)} s.`, {
    source,
    hint: `Look at the downloads page of ${source}, and ask again.`,
  });
}

function tooOld(source: string): GatewayError {
  return new GatewayError('not_supported', `This ${source} cannot be told to download models.`, {
    source,
    hint: 'Update LM Studio.',
  });
}
