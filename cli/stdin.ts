// Standard input as text, or as bytes.
import { usageError } from './exit.ts';
import type { Invocation } from './command.ts';
import { cancelled } from './target.ts';

/** Silence after which a person is told what is being waited for. */
const NOTE_MS = 2000;

/** All of it, without the newline that ends its last line. */
export async function readStdin(invocation: Invocation): Promise<string> {
  const bytes = await readStdinBytes(invocation);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes).replace(/\r?\n$/, '');
  } catch {
    throw usageError('Standard input is not UTF-8 text.');
  }
}

export async function readStdinBytes({ io, out }: Invocation): Promise<Uint8Array> {
  const note = setTimeout(() => out.note('Reading standard input; Ctrl-D ends it.'), NOTE_MS);
  const gone = Promise.withResolvers<never>();
  const onAbort = () => gone.reject(cancelled());
  io.signal.addEventListener('abort', onAbort, { once: true });
  if (io.signal.aborted) onAbort();
  try {
    return await Promise.race([io.stdin.read(), gone.promise]);
  } finally {
    clearTimeout(note);
    io.signal.removeEventListener('abort', onAbort);
  }
}
