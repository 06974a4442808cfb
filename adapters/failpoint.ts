// Ends the process at a named place in the code, as a power cut would: for tests of what survives.
import type { Failpoint } from '../src/store.ts';

/** `renamed` kills at the first time, `renamed:3` at the third. */
export function createFailpoint(asked: string | undefined): Failpoint | undefined {
  if (!asked) return undefined;
  const [name, times = '1'] = asked.split(':');
  let left = Number(times);
  return (here) => {
    if (here === name && --left === 0) process.kill(process.pid, 'SIGKILL');
  };
}
