// Turns tokens into text a reader may see: whole characters only, and never a part of a stop string.
import type { TokenLogprob } from '../../../src/capabilities/text/fields.ts';

/** A character cut in half by a token boundary decodes to this. */
const INCOMPLETE = '\uFFFD';

export interface Piece {
  text: string;
  logprobs: TokenLogprob[];
}

/**
 * `decode` turns ids into text; `before` are the last ids of the prompt, because some tokenizers write the first
 * token of a text without its space.
 */
export function createReader(decode: (ids: number[]) => string, before: number[], stop: string[]) {
  // Decoding a short window twice and taking the difference works for every kind of tokenizer.
  let window = before.slice(-4);
  let shown = text(window);
  let pending = '';
  let emitted = 0;
  let decoded = 0;
  let stopped = false;
  const scored: { start: number; logprob: TokenLogprob }[] = [];

  function text(ids: number[]): string {
    return ids.length === 0 ? '' : decode(ids);
  }

  function take(length: number): Piece {
    const piece = pending.slice(0, length);
    pending = pending.slice(length);
    emitted += length;
    const count = scored.findIndex(({ start }) => start >= emitted);
    const logprobs = scored.splice(0, count === -1 ? scored.length : count).map(({ logprob }) => logprob);
    return { text: piece, logprobs };
  }

  return {
    /** Adds a token; what comes back may be shown. */
    push(id: number, logprob?: TokenLogprob): Piece {
      if (logprob) scored.push({ start: decoded, logprob });
      window.push(id);
      const all = text(window);
      if (all.endsWith(INCOMPLETE)) return { text: '', logprobs: [] };
      const fresh = all.slice(shown.length);
      window = window.slice(-4);
      shown = text(window);
      pending += fresh;
      decoded += fresh.length;
      const at = firstOf(pending, stop);
      if (at !== -1) {
        stopped = true;
        return take(at);
      }
      return take(pending.length - heldBack(pending, stop));
    },
    /** A stop string was reached. */
    get stopped() {
      return stopped;
    },
    /** What was held back in case it became a stop string; a character left incomplete is dropped. */
    end(): Piece {
      return stopped ? { text: '', logprobs: [] } : take(pending.length);
    },
  };
}

function firstOf(text: string, stop: string[]): number {
  const found = stop.map((each) => text.indexOf(each)).filter((at) => at !== -1);
  return found.length === 0 ? -1 : Math.min(...found);
}

/** How many characters at the end could be the beginning of a stop string. */
function heldBack(text: string, stop: string[]): number {
  let most = 0;
  for (const each of stop) {
    for (let length = Math.min(each.length - 1, text.length); length > most; length--) {
      if (text.endsWith(each.slice(0, length))) most = length;
    }
  }
  return most;
}
