// `serve`: the gateway, listening, until a signal tells it to stop.
import type { Gateway } from '../../src/gateway.ts';
import type { OpenGateway } from '../../adapters/index.ts';
import type { Listening } from '../../adapters/hosts/host.ts';
import { defineLeaf, toEnv, type Invocation } from '../command.ts';
import { CommandFailure, exitCodes, usageError } from '../exit.ts';

/** A run ends before its last bytes are written; answers that were open get this long to send theirs. */
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
    if (flags.url !== undefined) throw usageError('serve starts a gateway; --url is the address of one that runs.');
    if (flags.key !== undefined) throw usageError('serve takes no --key.', 'Set HONO_AI_API_KEY.');
    if (flags.timeout !== undefined) throw usageError('serve takes no --timeout.');
    const opened = await open(invocation);
    const { gateway, stateDir, instance } = opened;
    let listening: Listening | undefined;
    const { saveOwner, clearOwner } = await import('../../adapters/state.ts');
    try {
      listening = await listen(invocation, opened);
      const url = toUrl(listening);
      saveOwner(stateDir, { url, pid: process.pid, instance });
      welcome(invocation, opened, url);
      await aborted(io.signal);
      await stop(invocation, opened, listening);
    } finally {
      clearOwner(stateDir, instance);
      await listening?.close();
      await opened.close();
    }
    // A stop that was asked for is a success: supervisors restart what fails.
    void gateway;
    return exitCodes.ok;
  },
});
