// Settings of the card: which one, who may use how much of it, and when.
import { z } from 'zod';
import { bytes, flag, milliseconds, numbers, optional, pairs, setting } from './fields.ts';

/** Name in the file → setting. */
export const cardSettings = {
  gpu: optional(
    'HONO_AI_GPU',
    z.string().min(1).max(200),
    'The card that models run on: its number, PCI address or a part of its name; the one with most memory if unset.',
  ),
  vram: optional(
    'HONO_AI_VRAM',
    bytes,
    'Memory of the card that models may use, e.g. 11GB; what is larger is refused. Unset: what the card has less 1 GB, and what is larger has it to itself; one model at a time where nothing tells.',
  ),
  vram_headroom: setting(
    'HONO_AI_VRAM_HEADROOM',
    bytes,
    '1GB',
    'Memory of the card that is left to the desktop and to what runtimes take beyond their models.',
  ),
  patience_s: setting(
    'HONO_AI_PATIENCE_S',
    z.coerce.number().min(1).max(86_400),
    60,
    'How long, at least, requests that need no swap may go before one that does, in seconds; longer while there is so much to do that plain order would make somebody wait longer.',
  ),
  preempt: setting(
    'HONO_AI_PREEMPT',
    flag,
    false,
    'End background work that runs, and begin it again later, where somebody at the screen would wait beyond his patience.',
  ),
  shares: setting(
    'HONO_AI_SHARES',
    numbers('name:share,name:share, such as owner:2,guest:0.5', 0.001, 1000),
    '',
    'How much of the card callers may have where several want it, against the 1 of all others: name:share,name:share.',
  ),
  overflow_s: optional(
    'HONO_AI_OVERFLOW_S',
    z.coerce.number().min(0).max(86_400),
    'Where a name stands for several models: the next one that is not on the card answers when the wait for the card is longer, in seconds. Nobody overflows if unset.',
  ),
  quiet_hours: optional(
    'HONO_AI_QUIET_HOURS',
    z
      .string()
      .regex(/^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$/, 'from-to, such as 23:00-07:00')
      .refine(
        (hours) => hours.slice(0, 5) !== hours.slice(-5),
        'from-to, such as 23:00-07:00: the same time twice is no time',
      ),
    'When no background work begins, in the time of this machine: 23:00-07:00.',
  ),
  background_power_w: optional(
    'HONO_AI_BACKGROUND_POWER_W',
    z.coerce.number().min(1).max(2000),
    'The most power that the card may take while only background work runs, in watts. Needs the right to set it.',
  ),
  restore_s: setting(
    'HONO_AI_RESTORE_S',
    z.coerce.number().int().min(1).max(86_400),
    60,
    'How long the card must be idle until models that are to be loaded from the start, and had to leave, come back, in seconds.',
  ),
  lease_ms: setting(
    'HONO_AI_LEASE_MS',
    milliseconds,
    1_200_000,
    'How long a runtime on the card may give no sign of life within a run; then the card is taken from it.',
  ),
  restart: setting(
    'HONO_AI_RESTART',
    pairs('name:command,name:command'),
    '',
    'What restarts a runtime that is wedged, by its name: ollama:systemctl restart ollama,comfyui:docker restart comfyui. Words are split at spaces, quotes kept together; no shell. ollama:ignore leaves a silent one alone.',
  ),
};
