// Tries what a network may break: again and again while something comes, with longer and longer waits while nothing does.
import { setTimeout as sleep } from 'node:timers/promises';
import type { StatusEvent } from '../../src/event.ts';
import { Unreachable } from '../../src/webhooks/send.ts';
import { Again, toFailure } from './failures.ts';

export interface Patience {
  /** Tries in a row that bring nothing until it fails. */
  tries: number;
  /** Milliseconds before the second try; twice as long before each next one. */
  backoffMs: number;
  /** For people: what a silence was. */
  stallMs: number;
}

export interface Turn {
  /** This try brought something, though it failed. */
  brought: boolean;
}

const MAX_BACKOFF = 30_000;
/** The server was not reached at all. Before it ever was, waiting would only hide that. */
const UNMET = new Set(['dns', 'refused', 'tls']);

/** Throws the last failure, or the first that another try cannot heal. */
export async function* insist<Event, Result>(
  { tries, backoffMs, stallMs }: Patience,
  label: string,
  signal: AbortSignal,
  attempt: (turn: Turn) => AsyncGenerator<Event, Result>,
): AsyncGenerator<Event | StatusEvent, Result> {
  let met = false;
  for (let failed = 0; ;) {
    const turn: Turn = { brought: false };
    try {
      return yield* attempt(turn);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Again) && !(error instanceof Unreachable)) throw error;
      const reached = error instanceof Again || !UNMET.has(error.reason);
      met ||= reached;
      failed = turn.brought ? 0 : failed + 1;
      const failure = toFailure(error, label, stallMs);
      if (!met || failed >= tries || failure.retry === false) throw failure;
      const asked = error instanceof Again ? error.wait * 1000 : 0;
      const wait = Math.max(asked, toBackoff(failed, backoffMs));
      const eta = Math.ceil(wait / 1000);
      yield { type: 'status', state: 'running', eta, message: `${failure.message} Next try in ${eta} s.` };
      await sleep(wait, undefined, { signal });
    }
  }
}

function toBackoff(failed: number, first: number): number {
  return Math.min(first * 2 ** Math.max(0, failed - 1), MAX_BACKOFF) * (0.5 + Math.random() / 2);
}
