// The connection to Redis: scripts that answer or fail within a moment, on the data that this gateway knows, and a way back.
import { Redis, type RedisOptions } from 'ioredis';
import { ConfigError } from '../../../src/config.ts';
import { GatewayError } from '../../../src/error.ts';
import { toLua } from './lua.ts';
import { scripts, type ScriptName } from './scripts.ts';

export interface Link {
  readonly redis: Redis;
  /** What all keys begin with, in braces, so that a cluster keeps them in one place. */
  readonly prefix: string;
  /** Marks the data that this gateway knows; another one in Redis means that Redis lost it. */
  epoch: string;
  /** Set while the data is being brought back: everybody else waits outside. */
  closed: boolean;
  /**
   * Runs a script. Throws `storage_unavailable` within two seconds where Redis does not answer (later where much is
   * sent, or may come), `storage_full` where it is full.
   */
  run<T>(name: ScriptName, args: object, texts?: readonly string[]): Promise<T>;
  /** As `run`, also while the link is closed. */
  force<T>(name: ScriptName, args: object, texts?: readonly string[]): Promise<T>;
  /** The same limits for what others do with the connection. */
  guard<T>(work: Promise<T>, ms?: number): Promise<T>;
  /** A connection of its own for commands that block. */
  duplicate(): Redis;
  disconnect(): void;
}

export interface LinkOptions {
  url: string;
  prefix: string;
  /** Called when a script met an epoch that is not ours. */
  onLost: () => void;
}

/** Longest wait for an answer, in milliseconds: a disk or a processor that others use may keep it for a while. */
const ANSWER_MS = 2000;
/** The same where the last one never came: nobody waits for that again and again. */
const SILENT_MS = 400;
const GRACE_MS = 30;
/** What is sent may take its time: bytes for each further millisecond. */
const BYTES_PER_MS = 5000;
/** Without any answer for so long, the connection counts as dead; another one may do better. */
const DEAD_MS = 3000;
/** Redis may be starting beside us. */
const OPEN_MS = 5000;

type Run = (...args: (string | number)[]) => Promise<unknown>;

export async function openLink({ url, prefix, onLost }: LinkOptions): Promise<Link> {
  const redis = new Redis(url, { ...OPTIONS, lazyConnect: true });
  let fault: Error | undefined;
  let answeredAt = performance.now();
  let silent = false;
  redis.on('error', (error: Error) => (fault = error));
  redis.on('ready', () => (answeredAt = performance.now()));
  await connect(redis, url, () => fault);
  const modern = await knowsFlags(redis);
  for (const [name, script] of Object.entries(scripts)) {
    redis.defineCommand(toCommand(name), { numberOfKeys: 1, lua: toLua(script, modern) });
  }
  const epochKey = `{${prefix}}:epoch`;

  async function guard<T>(work: Promise<T>, ms = silent ? SILENT_MS : ANSWER_MS): Promise<T> {
    try {
      const answer = await within(work, ms, redis);
      answeredAt = performance.now();
      silent = false;
      return answer;
    } catch (error) {
      silent = !isReply(error);
      if (!silent) answeredAt = performance.now();
      else if (performance.now() - answeredAt > DEAD_MS && redis.status === 'ready') {
        answeredAt = performance.now();
        redis.disconnect(true);
      }
      throw toStoreError(error);
    }
  }

  async function force<T>(name: ScriptName, args: object, texts: readonly string[] = []): Promise<T> {
    if (redis.status !== 'ready') throw unavailable(fault);
    const json = JSON.stringify(args);
    const size = texts.reduce((sum, text) => sum + text.length, json.length);
    const run = (redis as unknown as Record<string, Run>)[toCommand(name)]!;
    const work = run.call(redis, epochKey, `{${prefix}}:`, link.epoch, json, ...texts) as Promise<T>;
    try {
      return await guard(work, (silent ? SILENT_MS : ANSWER_MS) + size / BYTES_PER_MS);
    } catch (error) {
      if (isLost(error)) onLost();
      throw error;
    }
  }

  const link: Link = {
    redis,
    prefix: `{${prefix}}`,
    epoch: '',
    closed: false,
    force,
    guard,
    run: (name, args, texts) =>
      link.closed ? Promise.reject(unavailable(new Error('data is being restored'))) : force(name, args, texts),
    duplicate() {
      const other = redis.duplicate({ ...OPTIONS, lazyConnect: false });
      other.on('error', () => {});
      return other;
    },
    disconnect: () => redis.disconnect(),
  };
  return link;
}

const OPTIONS: RedisOptions = {
  connectionName: 'hono-ai',
  connectTimeout: 3000,
  disconnectTimeout: 500,
  keepAlive: 10_000,
  // A caller is told at once; nothing is kept here to be done later, behind its back.
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  retryStrategy: (times) => Math.min(50 * times, 1000),
  // After a failover the old primary is a replica: go and find the new one.
  reconnectOnError: (error) => error.message.startsWith('READONLY'),
};

/** The address may hold a password: only where it points to is told. */
async function connect(redis: Redis, url: string, fault: () => Error | undefined): Promise<void> {
  redis.connect().catch(() => {});
  const until = performance.now() + OPEN_MS;
  while (redis.status !== 'ready') {
    const denied = /NOAUTH|WRONGPASS|invalid password/i.test(fault()?.message ?? '');
    if (denied || performance.now() > until) {
      redis.disconnect();
      const { hostname, port } = new URL(url);
      const where = `${hostname}:${port || '6379'}`;
      throw new ConfigError(
        denied
          ? `redis_url (HONO_AI_REDIS_URL): ${where} refuses the user or password`
          : `redis_url (HONO_AI_REDIS_URL): ${where} does not answer as a Redis; start it, or correct the address`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Since 7.0 a script says what it does to memory. */
async function knowsFlags(redis: Redis): Promise<boolean> {
  const info = await redis.info('server').catch(() => '');
  return Number(/redis_version:(\d+)/.exec(info)?.[1] ?? 0) >= 7;
}

/** As long as something comes in, a large answer is on its way; after silence of `ms` milliseconds nothing will come. */
async function within<T>(work: Promise<T>, ms: number, redis: Redis): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    const wait = (after: number, from: number) => {
      timer = setTimeout(() => {
        const now = toReceived(redis);
        // This process may have been busy itself: what has arrived meanwhile is read before the last look.
        if (now !== from) wait(ms, now);
        else if (after === GRACE_MS) reject(new Error('Redis does not answer'));
        else wait(GRACE_MS, from);
      }, after);
    };
    wait(ms, toReceived(redis));
  });
  try {
    return await Promise.race([work, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/** ioredis keeps its socket to itself. */
function toReceived(redis: Redis): number {
  return (redis as unknown as { stream?: { bytesRead?: number } }).stream?.bytesRead ?? 0;
}

/** Names that are no command of Redis. */
const toCommand = (name: string) => `honoAi_${name}`;

const isReply = (error: unknown): error is Error => error instanceof Error && error.name === 'ReplyError';

export function isLost(error: unknown): boolean {
  const cause = error instanceof GatewayError ? error.cause : error;
  return isReply(cause) && cause.message.startsWith('LOST');
}

function unavailable(cause: unknown): GatewayError {
  return new GatewayError('storage_unavailable', 'The store of jobs does not answer.', {
    hint: 'The gateway goes on by itself when Redis is back; GET /health says what is wrong.',
    retryAfter: 5,
    cause,
  });
}

function toStoreError(error: unknown): unknown {
  if (error instanceof GatewayError) return error;
  if (isReply(error) && /^(OOM|MISCONF)/.test(error.message)) {
    return new GatewayError('storage_full', 'There is no room left to keep this safely.', {
      hint: 'Give Redis more memory or disk, or delete ended jobs.',
      cause: error,
    });
  }
  // What a script itself did wrong is a fault of this program, not of Redis.
  if (isReply(error) && /^(ERR|WRONGTYPE)/.test(error.message)) return error;
  return unavailable(error);
}
