// Configuration → runtimes. A new runtime is one folder and one line here.
import { join } from 'node:path';
import { ConfigError, isLoopback, type Config } from '../../src/config.ts';
import type { RuntimeEntry } from '../../src/settings.ts';
import type { MediaTools } from '../../src/media.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';
import { chosenCard, type Hardware } from '../../src/hardware.ts';
import type { Puller } from '../../src/puller.ts';
import type { Transport, UpstreamLimits } from '../../src/upstream.ts';
import type { Downloads } from '../downloads/index.ts';
import { openShelves } from '../shelves/index.ts';
import { discover, speaksComfyUI, toOllamaUrl } from '../discovery.ts';
import { createA1111 } from './a1111/index.ts';
import { createAceStep } from './acestep/index.ts';
import { createAbsentComfyUI } from './comfyui/absent.ts';
import { createComfyUI } from './comfyui/index.ts';
import { createEmbedded } from './embedded/index.ts';
import { findModelsFolder } from './ollama/folder.ts';
import { createOllama } from './ollama/index.ts';
import { createOpenAI } from './openai/index.ts';

interface Parts {
  config: Config;
  transport: Transport;
  tools: MediaTools;
  downloads: Downloads;
  hardware: Hardware;
  stateDir: string;
  /** Where downloaded models are kept. */
  cacheDir: string;
}

const XAI_URL = 'https://api.x.ai/v1';
const OLLAMA_URL = 'http://127.0.0.1:11434';
const COMFYUI_URL = 'http://127.0.0.1:8188';

export async function openRuntimes(parts: Parts): Promise<RuntimeAdapter[]> {
  const entries = await toEntries(parts.config);
  const runtimes = entries.map((entry) => createRuntime(entry, parts));
  if (parts.config.embedded) runtimes.push(createEmbedded(toEmbeddedOptions(parts)));
  return runtimes;
}

/** Who gets models for folders that no runtime here reads. */
export function openPullers({ config, downloads }: Parts, runtimes: RuntimeAdapter[]): Puller[] {
  const hubUrl = config.hf_endpoint;
  const shelves = openShelves({ dirs: config.model_dirs, downloads, hubUrl });
  return runtimes.some(({ workflows }) => workflows)
    ? shelves
    : [...shelves, createAbsentComfyUI({ downloads, hubUrl })];
}

/** The file's entries, then what the environment names, then what is found on this machine. */
async function toEntries(config: Config): Promise<RuntimeEntry[]> {
  const entries = [...config.runtimes];
  const add = (entry: RuntimeEntry) => {
    if (!entries.some((other) => other.name === entry.name)) entries.push(entry);
  };
  if (config.ollama_url) add({ name: 'ollama', kind: 'ollama', url: toOllamaUrl(config.ollama_url) });
  if (config.openai_base_url)
    add({ name: 'openai', kind: 'openai', url: config.openai_base_url, api_key: config.openai_api_key });
  if (config.xai_api_key) add({ name: 'xai', kind: 'xai', api_key: config.xai_api_key });
  if (config.comfyui_url) add({ name: 'comfyui', kind: 'comfyui', url: config.comfyui_url });
  if (config.acestep_url)
    add({ name: 'acestep', kind: 'acestep', url: config.acestep_url, api_key: config.acestep_key });
  if (config.a1111_url) add({ name: 'a1111', kind: 'a1111', url: config.a1111_url });
  if (!config.discover) return entries;
  // Always there, running or not: it may be started later, and until then its status says how.
  if (!entries.some((entry) => entry.kind === 'ollama')) add({ name: 'ollama', kind: 'ollama', url: OLLAMA_URL });
  const taken = [...entries.flatMap((entry) => entry.url ?? []), `http://127.0.0.1:${config.port}`];
  const comfyui = !taken.includes(COMFYUI_URL) && !entries.some((entry) => entry.kind === 'comfyui');
  if (comfyui && (await speaksComfyUI(COMFYUI_URL))) add({ name: 'comfyui', kind: 'comfyui', url: COMFYUI_URL });
  for (const { name, url } of await discover(taken)) add({ name, kind: 'openai', url });
  return entries;
}

function createRuntime(entry: RuntimeEntry, parts: Parts): RuntimeAdapter {
  const { config, transport, tools, downloads, hardware, stateDir } = parts;
  const { name, kind, url, models, priority, slots } = entry;
  const key = entry.api_key_env === undefined ? entry.api_key : process.env[entry.api_key_env];
  if (entry.api_key_env !== undefined && !key) {
    throw new ConfigError(`runtimes: ${name}: the environment variable ${entry.api_key_env} is not set`);
  }
  const common = {
    name,
    transport,
    limits: toLimits(config),
    ...(priority === undefined ? {} : { priority }),
  };
  const turns = slots === undefined ? {} : { slots };
  const modelsDir = Object.hasOwn(config.model_dirs, name) ? config.model_dirs[name] : undefined;
  if (kind === 'ollama') {
    const pulls = {
      downloads,
      hubUrl: config.hf_endpoint,
      registry: config.ollama_registry,
      tempDir: join(stateDir, 'pulls', name),
      stallMs: config.pull_stall_ms,
      modelsDir: findModelsFolder(url!, process.env, modelsDir),
    };
    const headers = key ? { headers: { authorization: `Bearer ${key}` } } : {};
    // Of another machine nothing is known here.
    const hasCard = isLoopback(new URL(url!).hostname) ? { hasCard: () => toHasCard(hardware) } : {};
    return createOllama({ ...common, ...turns, ...headers, ...hasCard, baseUrl: url!, pulls });
  }
  const media = {
    ...common,
    ...turns,
    baseUrl: url!,
    tools,
    downloads,
    hubUrl: config.hf_endpoint,
    ...(modelsDir === undefined ? {} : { modelsDir }),
    ...(key ? { apiKey: key } : {}),
  };
  if (kind === 'comfyui') {
    return createComfyUI({ ...media, workflowsDir: config.workflows_dir ?? join(stateDir, 'workflows') });
  }
  if (kind === 'acestep') return createAceStep(media);
  if (kind === 'a1111') return createA1111(media);
  // What is not on the card waits for nobody.
  if (slots !== undefined)
    throw new ConfigError(`runtimes: ${name}: slots are for runtimes on the card, ${kind} is none`);
  return createOpenAI({
    ...common,
    baseUrl: url ?? XAI_URL,
    flavour: kind === 'xai' ? 'xai' : 'generic',
    tools,
    ...(key ? { apiKey: key } : {}),
    ...(models ? { models } : {}),
  });
}

function toLimits(config: Config): UpstreamLimits {
  return {
    firstByteMs: config.first_byte_ms,
    idleMs: config.idle_ms,
    controlMs: config.control_ms,
    maxReplyBytes: config.max_reply,
  };
}

function toEmbeddedOptions({ config, tools, cacheDir, downloads }: Parts) {
  return {
    tools,
    downloads,
    cacheDir,
    hubUrl: config.hf_endpoint,
    download: config.embedded_download,
    engine: config.embedded_engine,
    threads: config.embedded_threads,
    idleMs: config.embedded_idle_ms,
    queue: config.embedded_queue,
    ...(config.models_dir === undefined ? {} : { localDir: config.models_dir }),
  };
}

function toHasCard(hardware: Hardware): boolean | undefined {
  const reading = hardware.latest();
  return reading && chosenCard(reading) !== undefined;
}
