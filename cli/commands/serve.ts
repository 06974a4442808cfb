// `serve`: the gateway, listening, until a signal tells it to stop.
import type { Host, Listening } from '../../adapters/hosts/host.ts';
import type { OpenGateway } from '../../adapters/index.ts';
import { defineLeaf, toEnv, type Invocation } from '../command.ts';
import { CommandFailure, exitCodes, usageError } from '../exit.ts';

/** A run ends a little before its last bytes are written; answers that were open get this long to send theirs. */
const LAST_BYTES_MS = 250;

export const serve = defineLeaf({
  path: 'serve',
  summary: 'Start the gateway',
  details:
    'Listens until SIGINT or SIGTERM, then lets running answers finish (HONO_AI_DRAIN_MS). A second signal ends it at once.',
  flags: {
    host: { type: 'string', valueHint: 'ADDRESS', description: 'Address to listen on (HOST).' },
    port: { type: 'string', valueHint: 'N', description: 'Port to listen on; 0 takes a free one (PORT).' },
  },
  async run(invocation) {
    const { flags, io } = invocation;
    if (flags.url !== undefined) throw usageError('serve starts a gateway; --url is for asking one.');
    if (flags.key !== undefined) throw usageError('serve takes its key from HONO_AI_API_KEY only.');
    if (flags.timeout !== undefined) throw usageError('serve runs until it is stopped; it takes no --timeout.');
    const [{ currentHost }, { openGateway }, { saveOwner, clearOwner }] = await Promise.all([
      import('../../adapters/hosts/host.ts'),
      import('../../adapters/index.ts'),
      import('../../adapters/state.ts'),
    ]);
    const host = await currentHost();
    const settings = { host: flags['host'], port: flags['port'] };
    await refuseSecond(invocation, settings);
    const opened = await openGateway({
      env: toEnv(invocation),
      flags: settings,
      transport: host.transport,
      host: host.name,
      ...(io.runtimes ? { runtimes: io.runtimes } : {}),
    });
    const { stateDir, instance } = opened;
    try {
      const listening = await listen(host, opened);
      const url = toUrl(listening);
      saveOwner(stateDir, { url, pid: process.pid, instance });
      welcome(invocation, opened, url, host);
      await aborted(io.signal);
      await drain(invocation, opened, listening);
    } finally {
      clearOwner(stateDir, instance);
      await opened.close();
    }
    // A stop that was asked for is a success: supervisors restart what fails.
    return exitCodes.ok;
  },
});

/** Two gateways would each believe that the card is theirs. */
async function refuseSecond(invocation: Invocation, settings: Record<string, unknown>): Promise<void> {
  const [{ loadConfig }, { defaultStateDir, findOwner }] = await Promise.all([
    import('../../adapters/settings.ts'),
    import('../../adapters/state.ts'),
  ]);
  const env = toEnv(invocation);
  const { config } = loadConfig(env, settings);
  const owner = await findOwner(config.state_dir ?? defaultStateDir(env));
  if (!owner) return;
  throw new CommandFailure(exitCodes.failure, `A gateway already runs on ${owner.url} (process ${owner.pid}).`, {
    code: 'already_running',
    hint: 'Use it as it is, stop it first, or give this one another HONO_AI_STATE_DIR and PORT.',
  });
}

async function listen(host: Host, { app, config }: OpenGateway): Promise<Listening> {
  try {
    return await host.listen({ app, hostname: config.host, port: config.port, requestMs: config.request_ms });
  } catch (error) {
    throw await toListenFailure(error, config);
  }
}

async function toListenFailure(error: unknown, { host, port }: OpenGateway['config']): Promise<unknown> {
  const { code, name } = error as { code?: string; name?: string };
  const fail = (message: string, hint: string) =>
    new CommandFailure(exitCodes.failure, message, { code: 'cannot_listen', hint });
  if (code === 'EADDRINUSE' || name === 'AddrInUse') {
    const url = toUrl({ hostname: host, port });
    const other = (await isGateway(url)) ? 'another hono-ai gateway' : 'another program';
    return fail(`Port ${port} is taken by ${other}.`, `Choose another one: PORT=${port + 1} hono-ai serve`);
  }
  if (code === 'EACCES' || name === 'PermissionDenied') {
    return fail(`Port ${port} needs rights that this user does not have.`, 'Choose one above 1023: PORT=8787');
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || name === 'AddrNotAvailable') {
    return fail(`${host} is not an address of this machine.`, 'Set HOST to 127.0.0.1, 0.0.0.0 or one of its own.');
  }
  return error;
}

async function isGateway(url: string): Promise<boolean> {
  const { ofetch } = await import('ofetch');
  const health = await ofetch<{ instance?: unknown }>(`${url}/health`, { retry: 0, timeout: 1000 }).catch(
    () => undefined,
  );
  return typeof health?.instance === 'string';
}

function welcome({ out }: Invocation, { version, config, gateway }: OpenGateway, url: string, host: Host): void {
  out.note(`hono-ai ${version} on ${url} (${host.name}) — docs at ${url}/docs`);
  const key = config.api_key === undefined ? '' : ' -H "Authorization: Bearer $HONO_AI_API_KEY"';
  out.note(`try: curl ${url}/text/story${key} -d '{"prompt":"a brave cat"}'`);
  // Told when it is known: starting does not wait for runtimes.
  void gateway.catalog.runtimes().then((runtimes) => {
    for (const { name, ok, models, error, hint } of runtimes) {
      out.note(ok ? `${name}: ${models} models` : `${name}: down. ${[error, hint].filter(Boolean).join(' ')}`);
    }
  });
}

async function drain({ out }: Invocation, { gateway, config }: OpenGateway, listening: Listening): Promise<void> {
  const running = gateway.active();
  const seconds = Math.ceil(config.drain_ms / 1000);
  out.note(running > 0 ? `stopping: ${running} running, which may take up to ${seconds} s` : 'stopping');
  listening.stop();
  await gateway.drain(config.drain_ms);
  if (running > 0) await new Promise((resolve) => setTimeout(resolve, LAST_BYTES_MS));
  // Past the limit, what still runs is cut. Where nothing does there is nothing to cut.
  if (gateway.active() > 0) await listening.close();
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Where this machine reaches it: an address that means “all” is none to call. */
function toUrl({ hostname, port }: Pick<Listening, 'hostname' | 'port'>): string {
  const bare = hostname.replace(/^\[|\]$/g, '');
  const name = bare === '0.0.0.0' || bare === '::' ? '127.0.0.1' : bare;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}
