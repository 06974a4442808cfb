// Where requests go: the address that was named, else the gateway that owns the state directory, else a gateway in this process.
import { untilAborted } from '../src/timers.ts';
import type { GlobalFlags, Invocation } from './command.ts';
import { toEnv } from './command.ts';
import { CommandFailure, exitCodes, toFailure, usageError } from './exit.ts';

export interface Ask {
  method: string;
  path: string;
  /** Text is sent as application/json; a file needs a `content-type` among the headers, and is sent while it is read. */
  body?: string | Blob;
  accept?: string;
  headers?: Record<string, string>;
  /** Ends this request alone. */
  signal?: AbortSignal;
}

export interface Answer {
  status: number;
  header(name: string): string | undefined;
  body: AsyncIterable<Uint8Array>;
}

export interface Target {
  /** Its address; undefined in this process. */
  readonly url: string | undefined;
  send(ask: Ask): Promise<Answer>;
  /** Looks again who answers: a gateway may have been started since, or have come back at another address. */
  refresh(): Promise<void>;
  /** Waits for what was cancelled to have stopped. */
  close(): Promise<void>;
}

/** How long work that was cancelled may take to stop before this process leaves it alone. */
const STOP_MS = 2000;

type Place = Omit<Target, 'refresh'>;

export async function openTarget(invocation: Invocation, signal: AbortSignal): Promise<Target> {
  const { io, flags, out } = invocation;
  if (flags.key !== undefined) {
    out.note('Other users of this machine can see --key; HONO_AI_API_KEY hides it.');
  }
  const url = flags.url ?? (io.env['HONO_AI_URL'] || undefined);
  if (url !== undefined) {
    const place = await openRemote(toBaseUrl(url), flags.key ?? (io.env['HONO_AI_API_KEY'] || undefined), signal);
    return { ...place, refresh: async () => {} };
  }
  const [{ loadConfig }, { defaultStateDir, findOwner }] = await Promise.all([
    import('../adapters/settings.ts'),
    import('../adapters/state.ts'),
  ]);
  const env = toEnv(invocation);
  const { config } = loadConfig(env);
  const key = flags.key ?? config.api_key;
  async function findGateway(): Promise<Place | undefined> {
    const owner = await findOwner(config.state_dir ?? defaultStateDir(env));
    return owner && openRemote(owner.url, key, signal);
  }
  let place: Place | undefined = (await findGateway()) ?? (await openHere(invocation, key, signal));
  return {
    get url() {
      return place?.url;
    },
    send: async (ask) => (place ??= await openHere(invocation, key, signal)).send(ask),
    async refresh() {
      const before = place;
      // What this process holds open must not stand in the way of a gateway that is about to start.
      if (before?.url === undefined) place = undefined;
      if (place === undefined) await before?.close();
      place = (await findGateway()) ?? place;
    },
    close: async () => place?.close(),
  };
}

async function openRemote(url: string, key: string | undefined, signal: AbortSignal): Promise<Place> {
  // The host's own transport: fetch would cut an answer that begins after five minutes.
  const { currentHost } = await import('../adapters/hosts/host.ts');
  const { transport } = await currentHost();
  return {
    url,
    async send(ask) {
      const until = toSignal(signal, ask);
      try {
        const reply = await transport({
          url: url + ask.path,
          method: ask.method,
          headers: toHeaders(ask, key),
          signal: until,
          ...(ask.body === undefined ? {} : { body: ask.body }),
        });
        return { ...reply, body: tellBreaks(reply.body, url, until) };
      } catch (error) {
        if (until.aborted) throw error;
        throw new CommandFailure(exitCodes.unavailable, `No gateway answers at ${url}.`, {
          code: 'unreachable',
          hint: 'Start one with: hono-ai serve. Or correct --url or HONO_AI_URL.',
        });
      }
    },
    close: async () => {},
  };
}

async function* tellBreaks(
  body: AsyncIterable<Uint8Array>,
  url: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    if (signal.aborted) throw error;
    throw new CommandFailure(exitCodes.unavailable, `The gateway at ${url} broke off in the middle of its answer.`, {
      code: 'upstream_terminated',
      hint: 'It was stopped, or cut this reader off for being too slow.',
    });
  }
}

async function openHere(invocation: Invocation, key: string | undefined, signal: AbortSignal): Promise<Place> {
  const { io } = invocation;
  const env = toEnv(invocation);
  const [{ openGateway }, { currentHost }, { createLog }] = await Promise.all([
    import('../adapters/index.ts'),
    import('../adapters/hosts/host.ts'),
    import('../adapters/log.ts'),
  ]);
  const host = await currentHost();
  const { app, gateway, close } = await openGateway({
    env,
    transport: host.transport,
    host: host.name,
    log: createLog(toLogLevel(env['HONO_AI_LOG_LEVEL'])),
    // A command is too short-lived to begin what waits; a gateway does that.
    work: false,
    ...(io.runtimes ? { runtimes: io.runtimes } : {}),
  });
  return {
    url: undefined,
    async send(ask) {
      const response = await app.fetch(
        new Request(`http://127.0.0.1${ask.path}`, {
          method: ask.method,
          headers: toHeaders(ask, key),
          signal: toSignal(signal, ask),
          ...(ask.body === undefined ? {} : { body: ask.body }),
        }),
      );
      return {
        status: response.status,
        header: (name) => response.headers.get(name) ?? undefined,
        body: response.body ?? (async function* () {})(),
      };
    },
    async close() {
      await gateway.drain(STOP_MS);
      await close();
    },
  };
}

/** Runs `work` against the target under Ctrl-C and `--timeout`, and closes the target whatever happens. */
export async function withTarget<T>(
  invocation: Invocation,
  work: (target: Target, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { io, flags } = invocation;
  const timeout = new AbortController();
  const timer =
    flags.timeout === undefined ? undefined : setTimeout(() => timeout.abort(), Math.ceil(flags.timeout * 1000));
  const signal = AbortSignal.any([io.signal, timeout.signal]);
  let target: Target | undefined;
  try {
    target = await openTarget(invocation, signal);
    return await untilAborted(work(target, signal), signal);
  } catch (error) {
    if (io.signal.aborted) throw cancelled();
    if (timeout.signal.aborted) throw timedOut(flags);
    throw error;
  } finally {
    clearTimeout(timer);
    await target?.close();
  }
}

/** The whole answer; undefined where it has no body. Throws a CommandFailure where its status says that it failed. */
export async function readAnswer(answer: Answer): Promise<unknown> {
  const text = await readAll(answer.body);
  if (answer.status === 204) return undefined;
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  if (answer.status >= 300 || body === undefined) throw toFailure(answer.status, body);
  return body;
}

/** Asks and reads a JSON answer. Throws a CommandFailure. */
export async function askJson<T>(target: Pick<Target, 'send'>, ask: Ask): Promise<T> {
  return (await readAnswer(await target.send(ask))) as T;
}

export async function getJson<T>(invocation: Invocation, path: string): Promise<{ value: T; url: string | undefined }> {
  return withTarget(invocation, async (target) => ({
    value: (await readAnswer(await target.send({ method: 'GET', path }))) as T,
    url: target.url,
  }));
}

export async function readAll(body: AsyncIterable<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const piece of body) text += decoder.decode(piece, { stream: true });
  return text + decoder.decode();
}

export function cancelled(): CommandFailure {
  return new CommandFailure(exitCodes.cancelled, 'Cancelled.', { code: 'cancelled' });
}

function timedOut({ timeout }: GlobalFlags): CommandFailure {
  return new CommandFailure(exitCodes.timeout, `No answer within ${timeout} s.`, {
    code: 'timeout',
    hint: 'Allow more with --timeout.',
  });
}

function toHeaders({ body, accept, headers }: Ask, key: string | undefined): Record<string, string> {
  return {
    ...(typeof body === 'string' ? { 'content-type': 'application/json' } : {}),
    ...(accept === undefined ? {} : { accept }),
    ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
    ...headers,
  };
}

function toSignal(signal: AbortSignal, { signal: own }: Ask): AbortSignal {
  return own ? AbortSignal.any([signal, own]) : signal;
}

/** A line for each request is for servers: here the command itself says how it went, but not what nobody foresaw. */
function toLogLevel(asked: string | undefined): 'debug' | 'error' | 'silent' {
  return asked === 'debug' || asked === 'silent' ? asked : 'error';
}

function toBaseUrl(text: string): string {
  const url = URL.parse(text.includes('://') ? text : `http://${text}`);
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw usageError('--url (HONO_AI_URL): must be an http:// or https:// address.');
  }
  return url.href.replace(/[?#].*$/, '').replace(/\/+$/, '');
}
