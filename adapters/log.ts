// One JSON line per event on standard error.
import type { Log, LogEntry } from '../src/http/context.ts';

const RANK = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 };

/** Entries hold what the app put there: ids, names, codes and times; never headers, keys or prompts. */
export function createLog(level: keyof typeof RANK): Log {
  const least = RANK[level];
  return (entry: LogEntry) => {
    if (RANK[entry.level] < least) return;
    process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), ...entry })}\n`);
  };
}
