// The Hugging Face hub, or a mirror of it: what people call its files, what a repository holds, and what can be found there.
import { GatewayError } from '../../src/error.ts';
import type { Downloads } from './index.ts';
import { isSafePath } from './names.ts';

/** What a source names: a repository, perhaps a revision, a file or folder in it, or a quantization of it. */
export interface HubPlace {
  /** `org/name`. */
  repo: string;
  /** A branch, tag or commit; default `main`. */
  revision: string;
  path: string | undefined;
  /** `Q4_K_M`, of `hf.co/org/repo:Q4_K_M`. */
  quant: string | undefined;
}

export interface HubFile {
  path: string;
  /** Bytes. */
  size: number;
  /** Large files only; lower-case hexadecimal. */
  sha256: string | undefined;
}

export interface HubRepo {
  /** `org/name`. */
  id: string;
  /** As the hub spells it: `apache-2.0`, `llama3`. */
  license: string | undefined;
  /** Its terms have to be accepted, by whoever HF_TOKEN belongs to. */
  gated: boolean;
  tags: string[];
  downloads: number;
  /** `text-generation`, `text-to-image`, … */
  task: string | undefined;
}

export interface Hub {
  /** Its own address, without a slash at the end. */
  readonly url: string;
  /** `hf:org/repo[@rev][/path]`, `hf.co/org/repo[:quant]`, `https://huggingface.co/org/repo[/(resolve|blob|tree)/rev/path]`; undefined for anything else. */
  parse(source: string): HubPlace | undefined;
  /** Where a file is got. */
  urlOf(repo: string, revision: string, path: string): string;
  /** Every file whose name can be kept. Throws what `Downloads.json` does; model_not_found, model_unavailable for gated ones. */
  files(repo: string, revision: string, signal: AbortSignal): Promise<HubFile[]>;
  info(repo: string, signal: AbortSignal): Promise<HubRepo>;
  /** The most downloaded first. `filter`: a tag, such as `gguf`; `limit` at most 100. */
  search(words: string, options: { filter?: string; limit?: number }, signal: AbortSignal): Promise<HubRepo[]>;
}

const MAX_FILES = 20_000;
const MAX_TAGS = 200;
const NAME = /^[\w.-]{1,96}$/;
/** A branch may hold slashes; in an address they are escaped. */
const REVISION = /^[\w.-]+(\/[\w.-]+)*$/;
const SHA256 = /^[0-9a-f]{64}$/;

export function createHub(downloads: Pick<Downloads, 'json' | 'pages'>, options: { url: string }): Hub {
  const url = options.url.replace(/\/+$/, '');
  const hosts = new Set(['huggingface.co', 'www.huggingface.co', 'hf.co', new URL(url).host]);

  return {
    url,
    parse: (source) => parse(source, hosts),
    urlOf(repo, revision, path) {
      check(repo, revision);
      return `${url}/${repo}/resolve/${encodeURIComponent(revision)}/${path.split('/').map(encodeURIComponent).join('/')}`;
    },
    async files(repo, revision, signal) {
      check(repo, revision);
      const files: HubFile[] = [];
      const address = `${url}/api/models/${repo}/tree/${encodeURIComponent(revision)}?recursive=true`;
      for await (const page of downloads.pages<unknown>(address, signal)) {
        if (Array.isArray(page)) files.push(...page.flatMap(toFile));
        if (files.length > MAX_FILES) throw unreadable('holds more files than can be listed');
      }
      return files;
    },
    async info(repo, signal) {
      check(repo, 'main');
      const found = toRepo(await downloads.json<unknown>(`${url}/api/models/${repo}`, signal));
      if (!found) throw unreadable('was described in a way that nobody understands');
      return found;
    },
    async search(words, { filter, limit = 20 }, signal) {
      const query = new URLSearchParams({ search: words.slice(0, 200), sort: 'downloads', direction: '-1' });
      query.set('limit', String(Math.min(Math.max(Math.trunc(limit), 1), 100)));
      if (filter !== undefined) query.set('filter', filter);
      // Lists leave out who is gated and how often it was got unless they are asked for.
      for (const field of ['gated', 'downloads', 'tags', 'pipeline_tag']) query.append('expand[]', field);
      const found = await downloads.json<unknown>(`${url}/api/models?${query}`, signal);
      return Array.isArray(found) ? found.flatMap((each) => toRepo(each) ?? []) : [];
    },
  };
}

function parse(source: string, hosts: Set<string>): HubPlace | undefined {
  const text = source.trim();
  if (text.length > 2048) return undefined;
  const own = /^hf:(?!\/\/)(.+)$/i.exec(text)?.[1];
  if (own !== undefined) return ofOwnWords(own);
  const short = /^(?:hf\.co|huggingface\.co)\/(.+)$/i.exec(text)?.[1];
  if (short !== undefined && !/^[^/]+\/[^/]+\/(resolve|blob|raw|tree)\//.test(short)) return ofOllamaWords(short);
  const address = short === undefined ? text : `https://${text}`;
  if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) return undefined;
  const { host, pathname, username } = new URL(address);
  if (!hosts.has(host) || username !== '') return undefined;
  const decoded = decode(pathname.replace(/^\/|\/$/g, '').split('/'));
  if (!decoded) return undefined;
  const [org, name, verb, revision, ...path] = decoded;
  if (name === undefined) return undefined;
  if (verb === undefined) return toPlace(`${org}/${name}`, undefined, '', undefined);
  if (!/^(resolve|blob|raw|tree)$/.test(verb) || revision === undefined) return undefined;
  return toPlace(`${org}/${name}`, revision, path.join('/'), undefined);
}

/** `org/repo[@rev][/path]`. A revision that holds slashes has to be escaped. */
function ofOwnWords(text: string): HubPlace | undefined {
  const match = /^([^/@]+\/[^/@]+)(?:@([^/]+))?(?:\/(.*))?$/.exec(text);
  const revision = decode([match?.[2] ?? 'main'])?.[0];
  if (!match || revision === undefined) return undefined;
  return toPlace(match[1]!, revision, match[3] ?? '', undefined);
}

/** `org/repo[:quant]`, as Ollama takes it. */
function ofOllamaWords(text: string): HubPlace | undefined {
  const match = /^([^/:]+\/[^/:]+)(?::([\w.-]{1,96}))?\/?$/.exec(text);
  return match ? toPlace(match[1]!, undefined, '', match[2]) : undefined;
}

function toPlace(repo: string, revision = 'main', path = '', quant: string | undefined): HubPlace | undefined {
  if (!isRepo(repo) || !isRevision(revision)) return undefined;
  const wanted = path.replace(/\/$/, '');
  if (wanted !== '' && !isSafePath(wanted)) return undefined;
  return { repo, revision, path: wanted === '' ? undefined : wanted, quant };
}

function isRepo(repo: string): boolean {
  const names = repo.split('/');
  return names.length === 2 && names.every((name) => NAME.test(name) && !/^\.+$|\.\./.test(name));
}

function isRevision(revision: string): boolean {
  return revision.length <= 200 && REVISION.test(revision) && !/(^|\/)\.+(\/|$)/.test(revision);
}

function check(repo: string, revision: string): void {
  if (isRepo(repo) && isRevision(revision)) return;
  throw new GatewayError('invalid_request', 'This is no repository of the Hugging Face hub.', {
    hint: 'Write it as org/name, for example hf:unsloth/Qwen3-8B-GGUF.',
  });
}

function decode(parts: string[]): string[] | undefined {
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return undefined;
  }
}

/** Names that lead elsewhere are not listed: nobody could keep them. */
function toFile(entry: unknown): HubFile[] {
  const { type, path, size, lfs } = Object(entry) as Record<string, unknown>;
  const { oid, size: whole } = Object(lfs) as Record<string, unknown>;
  const bytes = typeof whole === 'number' ? whole : size;
  if (type !== 'file' || !isSafePath(path) || !Number.isSafeInteger(bytes) || (bytes as number) < 0) return [];
  const sha256 = typeof oid === 'string' && SHA256.test(oid) ? oid : undefined;
  return [{ path, size: bytes as number, sha256 }];
}

function toRepo(value: unknown): HubRepo | undefined {
  const { id, gated, tags, downloads, pipeline_tag, cardData } = Object(value) as Record<string, unknown>;
  if (typeof id !== 'string' || !isRepo(id)) return undefined;
  const words = Array.isArray(tags) ? tags.slice(0, MAX_TAGS).flatMap((tag) => short(tag) ?? []) : [];
  const named = (Object(cardData) as Record<string, unknown>)['license'];
  return {
    id,
    license: short(named) ?? words.find((tag) => tag.startsWith('license:'))?.slice('license:'.length),
    gated: gated === true || gated === 'auto' || gated === 'manual',
    tags: words,
    downloads: typeof downloads === 'number' && Number.isFinite(downloads) ? Math.max(0, downloads) : 0,
    task: short(pipeline_tag),
  };
}

function short(value: unknown): string | undefined {
  return typeof value === 'string' && value.length > 0 && value.length <= 100 ? value : undefined;
}

function unreadable(how: string): GatewayError {
  return new GatewayError('upstream_invalid', `The repository ${how}.`, { retry: false });
}
