// How much power the card may take while only background work runs: set for that time, and set back.
import { hostname } from 'node:os';
import type { View } from '../../src/arbiter/arbiter.ts';
import { chosenCard, type Card, type Hardware } from '../../src/hardware.ts';
import type { Log } from '../../src/http/context.ts';
import type { DocumentStore } from '../../src/store.ts';
import { unref, within } from '../../src/timers.ts';
import { findCap, type Cap, type CapOptions } from './cap.ts';

export interface Power {
  /** Who uses the card may have changed. */
  follow(view: () => Pick<View, 'running'>): void;
  /** Sets back what a gateway has left behind that did not end well. */
  load(): Promise<void>;
  /** Sets back what was set. */
  close(): Promise<void>;
}

export interface PowerOptions extends CapOptions {
  watts: number | undefined;
  hardware: Pick<Hardware, 'read'>;
  documents: Pick<DocumentStore, 'put' | 'get' | 'list'>;
  log: Log;
  /** Milliseconds. */
  limits?: Partial<typeof LIMITS>;
}

const LIMITS = {
  /** Background work runs alone for so long before it is slowed down: what is over in a moment is not worth it. */
  calm: 1000,
  /** Nothing runs for so long before that is set back: the next piece of work often follows. */
  idle: 2000,
  /** Setting it back at the end. */
  close: 5000,
};
const KIND = 'power limit';
const OWNER = 'gateway';
/** Drivers round what they are given. In watts. */
const SAME = 1.5;
/** Cards of one machine. */
const MAX_NOTES = 64;

/** What is to be set back: written down before it is changed. */
interface Note {
  card: Pick<Card, 'id' | 'index' | 'vendor'>;
  host: string;
  pid: number;
  /** Watts: as it was, and as it was set. */
  before: number;
  set: number;
}

export function createPower({ watts, hardware, documents, log, root, env, ...options }: PowerOptions): Power {
  const limits = { ...LIMITS, ...options.limits };
  const where = { ...(root === undefined ? {} : { root }), ...(env ? { env } : {}) };
  let wanted = false;
  let note: Note | undefined;
  let closed = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let aimed = false;
  /** One change after the other. */
  let last: Promise<void> = Promise.resolve();
  const told = new Set<string>();

  function inTurn(work: () => Promise<void>): Promise<void> {
    last = last.then(work).catch((error: unknown) => {
      warn('The power of the card could not be set.', { cause: error instanceof Error ? error.message : 'unknown' });
    });
    return last;
  }

  /** Each thing once: the next one will be no better. */
  function warn(message: string, more: Record<string, unknown> = {}): void {
    if (told.has(message)) return;
    told.add(message);
    log({ level: 'warn', message, ...more });
  }

  /** Towards it after `ms`, unless things have changed by then. */
  function aim(at: boolean, ms: number): void {
    if (aimed === at && (ms > 0 || wanted === at)) return;
    clearTimeout(timer);
    aimed = at;
    const go = () => {
      wanted = at;
      void inTurn(apply);
    };
    if (ms === 0) return go();
    timer = setTimeout(go, ms);
    unref(timer);
  }

  async function apply(): Promise<void> {
    if (wanted && !note) await lower();
    else if (!wanted && note) await setBack();
  }

  async function lower(): Promise<void> {
    const card = chosenCard(await hardware.read(60_000));
    const cap = card && (await findCap(card, where));
    const now = await cap?.read();
    if (!card || !cap || !now)
      return warn('Background work runs at full power: the power of this card cannot be set here.');
    const set = Math.min(Math.max(watts!, now.min), now.max);
    if (set > watts!) warn(`This card takes no limit below ${set} W: background work gets that, not ${watts} W.`);
    if (set >= now.now) return;
    const { id, index, vendor } = card;
    const next: Note = { card: { id, index, vendor }, host: hostname(), pid: process.pid, before: now.now, set };
    await documents.put([{ kind: KIND, id: toId(next), owner: OWNER, value: next }]);
    note = next;
    try {
      await cap.set(set);
      log({ level: 'debug', message: `Background work: the card may take ${set} W.`, before: now.now });
    } catch (error) {
      note = undefined;
      await forget(next);
      refused(cap, error);
    }
  }

  function refused(cap: Cap, error: unknown): void {
    const cause =
      error instanceof Error ? ((error as { code?: string }).code ?? error.message.slice(0, 200)) : 'unknown';
    warn('Background work runs at full power: this user may not set the power of the card.', {
      hint: cap.remedy,
      cause,
    });
  }

  async function setBack(): Promise<void> {
    const mine = note!;
    const cap = await findCap(mine.card, where);
    const now = await cap?.read();
    // Whoever has changed it meanwhile has meant to.
    if (cap && now && Math.abs(now.now - mine.set) <= SAME) {
      await cap.set(mine.before);
      log({ level: 'debug', message: `The card may take ${mine.before} W again.` });
    }
    note = undefined;
    await forget(mine);
  }

  const forget = (mine: Note) => documents.put([{ kind: KIND, id: toId(mine), delete: true }]).then(() => {});

  async function recover(): Promise<void> {
    const { documents: notes } = await documents.list<Note>(KIND, { owner: OWNER, limit: MAX_NOTES });
    for (const { value } of notes) {
      if (note || isAlive(value.pid)) continue;
      // Cards of other machines on the same store may have the same address, but not this limit without a reason.
      const now = await (await findCap(value.card, where))?.read();
      if (now && Math.abs(now.now - value.set) <= SAME) note = value;
      else if (value.host === hostname()) await forget(value);
    }
    if (!note) return;
    log({
      level: 'info',
      message: 'A gateway has ended while only background work ran: the power of the card is set back.',
    });
    await apply();
  }

  return {
    follow(view) {
      if (watts === undefined || closed) return;
      const { running } = view();
      if (running.length === 0) aim(false, limits.idle);
      else if (running.every((lease) => lease.class === 'background')) aim(true, limits.calm);
      else aim(false, 0);
    },
    load: () => inTurn(recover),
    async close() {
      closed = true;
      clearTimeout(timer);
      wanted = false;
      await within(limits.close, inTurn(apply));
    },
  };
}

function toId({ host, card }: Note): string {
  return `${host} ${card.id}`;
}

/** Another gateway on this machine. In a container every one of them has the same number, so one's own is a former one's. */
function isAlive(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === 'EPERM';
  }
}
