// A gateway that listens, inside the test's own process, over a runtime that does what its prompt says.
import { currentHost } from '../../adapters/hosts/host.ts';
import { openGateway } from '../../adapters/index.ts';
import { clearOwner, saveOwner } from '../../adapters/state.ts';
import { toUsage } from '../../src/capabilities/text/fields.ts';
import { GatewayError } from '../../src/error.ts';
import type { MadeFile } from '../../src/event.ts';
import type { RuntimeAdapter } from '../../src/runtime.ts';

export interface ServedHere {
  url: string;
  close(): Promise<void>;
}

/** Commands with the same state directory find it. */
export async function serveHere(env: Record<string, string>, runtime: RuntimeAdapter): Promise<ServedHere> {
  const host = await currentHost();
  const opened = await openGateway({ env, transport: host.transport, host: host.name, runtimes: [runtime] });
  const { app, stateDir, instance } = opened;
  const listening = await host.listen({ app, hostname: '127.0.0.1', port: 0, requestMs: 10_000 });
  const url = `http://127.0.0.1:${listening.port}`;
  saveOwner(stateDir, { url, pid: process.pid, instance });
  return {
    url,
    async close() {
      clearOwner(stateDir, instance);
      listening.stop();
      await listening.close();
      await opened.gateway.drain(0);
      await opened.close();
    },
  };
}

export interface Studio {
  runtime: RuntimeAdapter;
  /** Prompts, in the order in which they were begun. */
  begun: string[];
  aborts: number;
  /** Lets what is held go on. */
  release(): void;
}

/**
 * A prompt is words: `hold` waits for release, `half` reports progress, `fail` fails for good, `file:NAME` makes a file
 * that holds its own name. The answer is the prompt.
 */
export function createStudio(): Studio {
  let gate = Promise.withResolvers<void>();
  const held = (signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      const stop = () => {
        studio.aborts++;
        reject(new GatewayError('client_closed', 'The request was cancelled.', { source: 'studio' }));
      };
      if (signal.aborted) return stop();
      signal.addEventListener('abort', stop, { once: true });
      void gate.promise.then(() => {
        signal.removeEventListener('abort', stop);
        resolve();
      });
    });
  const studio: Studio = {
    begun: [],
    aborts: 0,
    release() {
      gate.resolve();
      gate = Promise.withResolvers();
    },
    runtime: {
      name: 'studio',
      priority: 50,
      models: async () => [{ id: 'easel', capabilities: ['text.generate'], state: 'ready' }],
      health: async () => {},
      handles: {
        async *'text.generate'({ prompt }, { signal }) {
          studio.begun.push(prompt);
          const files: MadeFile[] = [];
          for (const word of prompt.split(' ')) {
            if (word === 'half') yield { type: 'progress', done: 5, total: 10, unit: 'steps' };
            if (word === 'hold') await held(signal);
            if (word === 'fail') {
              throw new GatewayError('context_length_exceeded', 'Too long for the easel.', { source: 'studio' });
            }
            const name = /^file:(.+)$/.exec(word)?.[1];
            if (name) files.push({ name, bytes: new TextEncoder().encode(name), media_type: 'text/plain' });
          }
          const result = { text: prompt, finish_reason: 'stop' as const, usage: toUsage(1, 1) };
          yield { type: 'result', result, ...(files.length > 0 ? { files } : {}) };
        },
      },
    },
  };
  return studio;
}
