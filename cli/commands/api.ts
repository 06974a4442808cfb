// `api`: any route of the gateway, as it is.
import { defineLeaf, type Invocation } from '../command.ts';
import { toFailure, usageError } from '../exit.ts';
import { readText } from '../flags.ts';
import { readStdin } from '../stdin.ts';
import { withTarget } from '../target.ts';

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

export const api = defineLeaf({
  path: 'api',
  summary: 'Send a request to any route',
  details:
    'Prints the answer as it comes, event streams included. An answer that is a failure is printed too, and sets the exit code.',
  argument: { hint: 'METHOD PATH', description: 'For example: GET /v1/models', max: 2 },
  flags: {
    data: {
      type: 'string',
      alias: 'd',
      valueHint: 'JSON|@FILE|-',
      description: 'The body; - reads standard input.',
      completes: 'file',
    },
  },
  async run(invocation) {
    const { words, out } = invocation;
    const [method = '', path = ''] = words;
    if (!METHODS.includes(method.toUpperCase())) {
      throw usageError('api needs METHOD PATH.', `METHOD is one of ${METHODS.join(', ')}.`);
    }
    if (!path.startsWith('/')) throw usageError('PATH begins with /, such as /v1/models.');
    const body = await readBody(invocation);
    await withTarget(invocation, async (target) => {
      const reply = await target.send({
        method: method.toUpperCase(),
        path,
        accept: '*/*',
        ...(body === undefined ? {} : { body }),
      });
      const seen: Uint8Array[] = [];
      let last = 10;
      for await (const piece of reply.body) {
        if (piece.byteLength === 0) continue;
        if (reply.status >= 400) seen.push(piece);
        out.raw(piece);
        last = piece.at(-1)!;
      }
      // On a pipe the bytes are the gateway's alone; on a terminal the prompt must not follow them.
      if (last !== 10 && invocation.io.stdout.isTTY) out.line('');
      if (reply.status >= 400) throw toFailure(reply.status, toJson(seen));
    });
  },
});

async function readBody(invocation: Invocation): Promise<string | undefined> {
  const data = invocation.flags['data'];
  if (typeof data !== 'string') return undefined;
  if (data === '-') return readStdin(invocation);
  if (!data.startsWith('@')) return data;
  try {
    return readText(data.slice(1));
  } catch (error) {
    throw usageError(`--data: must be ${(error as Error).message}.`);
  }
}

function toJson(pieces: Uint8Array[]): unknown {
  try {
    return JSON.parse(Buffer.concat(pieces).toString());
  } catch {
    return undefined;
  }
}
