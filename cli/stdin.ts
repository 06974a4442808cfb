// Standard input as text.
import { usageError } from './exit.ts';
import type { Invocation } from './command.ts';
import { cancelled } from './target.ts';

/** Silence after which a person is told what is being waited for. */
const NOTE_MS = 2000;

/** All of it, without the newline that ends its last line. */
export async function readStdin({ io, out }: Invocation): Promise<string> {
  const note = setTimeout(() => out.note('Reading standard input; Ctrl-D ends it.'), NOTE_MS);
  const gone = Promise.withResolvers<never>();
  const onAbort = () => gone.reject(cancelled());
  io.signal.addEventListener('abort', onAbort, { once: true });
  if (io.signal.aborted) onAbort();
  try {
    const bytes = await Promise.race([io.stdin.read(), gone.promise]);
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes).replace(/\r?\n$/, '');
  } catch (error) {
    if (error instanceof TypeError) throw usageError('Standard input is not UTF-8 text.');
    throw error;
  } finally {
    clearTimeout(note);
    io.signal.removeEventListener('abort', onAbort);
  }
}
