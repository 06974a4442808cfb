// The card lent to a person: nothing of the gateway begins until it is given back, also after a restart.
import type { Arbiter } from '../arbiter/arbiter.ts';
import { GatewayError } from '../error.ts';
import type { HoldView } from '../hardware.ts';
import type { DocumentStore } from '../store.ts';
import { unref, within } from '../timers.ts';

/** Times are in milliseconds on the gateway's clock. */
export interface Lent {
  since: number;
  until: number;
  /** What for, in the words of whoever took it. */
  reason: string | undefined;
}

export interface Lending {
  /**
   * The card is theirs for so long; what is idle leaves it, what is busy leaves when it is done. Whoever has it longer than
   * before has it until then; it does not become shorter. Throws invalid_request for a time or reason that cannot be.
   */
  lend(ms: number, reason?: string): Promise<Lent>;
  /** What was given back; undefined where it was not lent. */
  giveBack(): Promise<Lent | undefined>;
  now(): Lent | undefined;
  /** Goes on with what was lent before a restart. */
  load(): Promise<void>;
  /** Looks at the time no more; what is written down stays. */
  close(): void;
}

export interface LendingOptions {
  arbiter: Pick<Arbiter, 'close' | 'open' | 'snapshot'>;
  documents: DocumentStore;
  now: () => number;
  /** Sends away what nobody uses, on the arbiter's books or not. */
  unload?: (signal: AbortSignal) => Promise<unknown>;
  /** It was lent, lent for longer, or is back. */
  onChange?: (lent: Lent | undefined) => void;
}

/** Longest time that a card is lent for, in milliseconds. */
export const MAX_LENT_MS = 24 * 3_600_000;
const MAX_REASON = 100;
/** How often the time is looked at: a machine that slept is past it, whatever timers say. */
const LOOK_MS = 15_000;
/** How long whoever takes the card waits for it to become empty, and how long that may take in all. */
const EMPTY_MS = 3000;
const UNLOAD_MS = 60_000;
const KIND = 'gpu.hold';
const ID = 'card';
const OWNER = 'gateway';

export function createLending({ arbiter, documents, now, unload, onChange = () => {} }: LendingOptions): Lending {
  let lent: Lent | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const closing = new AbortController();
  /** One change after the other. */
  let last: Promise<unknown> = Promise.resolve();

  const current = () => (lent && lent.until > now() ? lent : undefined);

  function inTurn<T>(change: () => Promise<T>): Promise<T> {
    const mine = last.then(change);
    last = mine.catch(() => {});
    return mine;
  }

  function take(given: Lent): void {
    lent = given;
    arbiter.close({ until: given.until, because: toBecause(given) }, { empty: true });
    watch();
    onChange(given);
  }

  function watch(): void {
    clearTimeout(timer);
    if (!lent) return;
    timer = setTimeout(
      () => (current() ? watch() : void inTurn(leave).catch(() => {})),
      Math.min(Math.max(1, lent.until - now()), LOOK_MS),
    );
    unref(timer);
  }

  /** Given back in any case; what is written down ends by its own time where it cannot be deleted. */
  async function leave(): Promise<void> {
    clearTimeout(timer);
    const before = lent;
    lent = undefined;
    arbiter.open();
    if (before) onChange(undefined);
    await documents.put([{ kind: KIND, id: ID, delete: true }]);
  }

  function empty(): Promise<unknown> {
    // What does not leave is told by whoever looks at the card.
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(UNLOAD_MS)]);
    return unload?.(signal).catch(() => {}) ?? Promise.resolve();
  }

  return {
    async lend(ms, reason) {
      const checked = check(ms, reason);
      const given = await inTurn(async () => {
        const at = now();
        const before = current();
        const next: Lent = {
          since: before?.since ?? at,
          until: Math.max(before?.until ?? 0, at + ms),
          reason: checked ?? before?.reason,
        };
        await documents.put([{ kind: KIND, id: ID, owner: OWNER, value: next }]);
        take(next);
        return next;
      });
      await within(EMPTY_MS, empty());
      return given;
    },
    giveBack: () =>
      inTurn(async () => {
        const before = current();
        await leave();
        return before;
      }),
    now: current,
    load: () =>
      inTurn(async () => {
        const known = (await documents.get<Partial<Lent>>(KIND, ID))?.value;
        const { since, until, reason } = known ?? {};
        if (typeof since !== 'number' || typeof until !== 'number' || until <= now()) return;
        // A clock that was wrong then, or is now, lends nothing for years.
        const most = now() + MAX_LENT_MS;
        take({ since, until: Math.min(until, most), reason: typeof reason === 'string' ? reason : undefined });
        void empty();
      }),
    close() {
      clearTimeout(timer);
      closing.abort();
    },
  };
}

/** As callers see it; null where the card is not lent. */
export function toHoldView(lent: Lent | undefined, now: number): HoldView | null {
  if (!lent) return null;
  return {
    since: new Date(lent.since).toISOString(),
    until: new Date(lent.until).toISOString(),
    left_s: Math.max(0, Math.ceil((lent.until - now) / 1000)),
    reason: lent.reason ?? null,
  };
}

/** In the time of this machine, where its owner sits. */
function toBecause({ until, reason }: Lent): string {
  const time = new Date(until).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
  return `the card is lent until ${time}${reason === undefined ? '' : ` (${reason})`}`;
}

function check(ms: number, reason: string | undefined): string | undefined {
  if (!Number.isFinite(ms) || ms < 1000 || ms > MAX_LENT_MS) {
    throw new GatewayError('invalid_request', 'The card can be lent for one second to 24 hours.', { param: 'for' });
  }
  const text = reason?.trim() ?? '';
  if (text === '') return undefined;
  if (text.length > MAX_REASON || /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text)) {
    throw new GatewayError('invalid_request', `A reason is one line of at most ${MAX_REASON} characters.`, {
      param: 'reason',
    });
  }
  return text;
}
