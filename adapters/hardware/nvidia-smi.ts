// The one nvidia-smi of this gateway: started when somebody asks, restarted when it dies, ended when nobody has asked for long.
import { spawn, type ChildProcess } from 'node:child_process';

export interface Sampler {
  /** Somebody wants values: it runs from now on, unless it has just failed. */
  want(): void;
  /** Why it does not run, where it should. */
  failure(): Failure | undefined;
  close(): void;
}

/** `silent`: it gave nothing for too long; `flood`: far too much; `ended`: it went by itself; `missing`: it could not be started. */
export type Failure = 'silent' | 'flood' | 'ended' | 'missing';

export interface SamplerOptions {
  command: string;
  args(): string[];
  env: Record<string, string | undefined>;
  onText(piece: string): void;
  onFailure(failure: Failure): void;
  /** Milliseconds; for tests. */
  limits?: Partial<typeof LIMITS>;
}

const LIMITS = {
  /** Without anything from it until it is taken for stuck. A driver that wakes up takes seconds. */
  silent: 10_000,
  /** Without anybody asking until it is ended. */
  idle: 60_000,
  /** From a failure to the next start; twice as long each time. */
  firstPause: 1000,
  longestPause: 60_000,
};
/** Characters within a second. A row of values is a hundred, and there are not a thousand cards. */
const FLOOD = 256 * 1024;
/** What a program needs to start, and none of this gateway's secrets. */
const ENVIRONMENT = ['PATH', 'LD_LIBRARY_PATH', 'SystemRoot', 'TEMP', 'TMP'];

export function createSampler({ command, args, env, onText, onFailure, ...options }: SamplerOptions): Sampler {
  const limits = { ...LIMITS, ...options.limits };
  let child: ChildProcess | undefined;
  let failed: Failure | undefined;
  let pause = limits.firstPause;
  let notBefore = -Infinity;
  let startedAt = 0;
  let heardAt = 0;
  let wantedAt = 0;
  let watching: ReturnType<typeof setInterval> | undefined;

  function fail(failure: Failure): void {
    stop();
    failed = failure;
    notBefore = performance.now() + pause;
    pause = Math.min(pause * 2, limits.longestPause);
    onFailure(failure);
  }

  /** Looks now and then whether it is stuck, or of no use to anybody any more. */
  function watch(): void {
    const now = performance.now();
    if (now - wantedAt > limits.idle) stop();
    else if (now - heardAt > limits.silent) fail('silent');
    else if (now - startedAt > limits.silent) pause = limits.firstPause;
  }

  function start(): void {
    heardAt = startedAt = performance.now();
    const only = Object.fromEntries(ENVIRONMENT.flatMap((name) => (env[name] ? [[name, env[name]]] : [])));
    let mine: ChildProcess;
    try {
      // In a group of its own, so that all of it can be ended.
      mine = spawn(command, args(), {
        env: { ...only, LC_ALL: 'C' },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: process.platform !== 'win32',
        windowsHide: true,
      });
    } catch {
      return fail('missing');
    }
    child = mine;
    let received = 0;
    let since = performance.now();
    const hear = (piece: string) => {
      if (child !== mine) return;
      heardAt = performance.now();
      if (heardAt - since > 1000) {
        since = heardAt;
        received = 0;
      }
      received += piece.length;
      if (received > FLOOD) return fail('flood');
      onText(piece);
    };
    for (const pipe of [mine.stdout, mine.stderr]) {
      pipe?.setEncoding('utf8').on('data', hear);
      pipe?.on('error', () => {});
      // Neither it nor what it says keeps this process alive.
      (pipe as unknown as { unref?(): void } | null)?.unref?.();
    }
    mine.unref();
    mine.once('error', () => child === mine && fail('missing'));
    mine.once('close', () => child === mine && fail('ended'));
    watching = setInterval(watch, Math.min(1000, limits.silent / 4));
    watching.unref();
    process.once('exit', stop);
  }

  function stop(): void {
    clearInterval(watching);
    process.removeListener('exit', stop);
    const mine = child;
    child = undefined;
    if (mine?.pid === undefined) return;
    mine.stdout?.destroy();
    mine.stderr?.destroy();
    try {
      if (process.platform === 'win32') mine.kill();
      else process.kill(-mine.pid, 'SIGKILL');
    } catch {
      // It has gone by itself.
    }
  }

  return {
    want() {
      wantedAt = performance.now();
      if (child || wantedAt < notBefore) return;
      failed = undefined;
      start();
    },
    failure: () => failed,
    close() {
      stop();
      notBefore = Infinity;
    },
  };
}
