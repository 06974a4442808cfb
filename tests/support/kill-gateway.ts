// A gateway for tests to kill: a process with everything loaded that opens its state only when a line on standard input says so.
import { createInterface } from 'node:readline';
import { currentHost } from '../../adapters/hosts/host.ts';
import { openGateway } from '../../adapters/index.ts';
import { createCountingAdapter } from './counting-runtime.ts';

/** The line that starts it. */
export interface Order {
  env: Record<string, string>;
  /** Where the runtime is that counts. */
  runtime: string;
  generation: string;
}

/** What it says: once loaded, and once listening. */
export type Said = { loaded: true } | { port: number };

const say = (said: Said) => process.stdout.write(`${JSON.stringify(said)}\n`);

const host = await currentHost();
const lines = createInterface({ input: process.stdin });
// Whoever started it is gone.
lines.once('close', () => process.exit(0));
lines.once('line', (line) => void open(JSON.parse(line) as Order));
say({ loaded: true });

async function open({ env, runtime, generation }: Order): Promise<void> {
  const { app, config } = await openGateway({
    env,
    transport: host.transport,
    host: host.name,
    runtimes: [createCountingAdapter({ url: runtime, generation })],
  });
  const { port } = await host.listen({ app, hostname: '127.0.0.1', port: 0, requestMs: config.request_ms });
  say({ port });
}
