// Models in memory as callers see them.
import type { Use } from './idle.ts';
import type { Resident, RuntimeAdapter } from '../../runtime.ts';
import type { ModelPolicy } from '../residency.ts';
import type { ResidentView } from '../views.ts';
import { toShare, toSpillWarning } from './look.ts';

export interface Seen {
  runtime: RuntimeAdapter;
  resident: Resident;
  loading: boolean;
  policy: ModelPolicy;
  /** Who uses it, as far as that goes through this gateway. */
  held: Use | undefined;
  now: number;
  hasCard: boolean | undefined;
}

/** The latest time that a Date can hold. */
const LATEST = 8.64e15;

export function toResidentView({ runtime, resident, loading, policy, held, now, hasCard }: Seen): ResidentView {
  const { model, vram, ram, contextWindow, expiresAt, busy } = resident;
  const share = toShare(resident);
  const inUse = held?.leases || (busy ? 1 : 0);
  const idle = held && held.usedAt > 0 ? Math.max(0, Math.round((now - held.usedAt) / 1000)) : null;
  return {
    model,
    runtime: runtime.name,
    state: loading ? 'loading' : 'loaded',
    vram: toBytes(vram),
    ram: ram === undefined ? null : toBytes(ram),
    on_card: share === undefined ? null : Math.round(share * 1000) / 1000,
    context_window: contextWindow === undefined ? null : toBytes(contextWindow),
    in_use: inUse,
    idle_s: inUse > 0 ? 0 : idle,
    expires_at: expiresAt !== undefined && Math.abs(expiresAt) < LATEST ? new Date(expiresAt).toISOString() : null,
    pinned: policy.pinned,
    preload: policy.preload,
    warning: loading ? null : (toSpillWarning(runtime, resident, hasCard) ?? null),
  };
}

/** Servers may say anything. */
function toBytes(value: number): number {
  return Number.isFinite(value) ? Math.min(Math.max(0, Math.round(value)), Number.MAX_SAFE_INTEGER) : 0;
}
