// The Prefer header (RFC 7240): whether a caller wants to wait for the answer, and for how long.

export interface Preference {
  /** Answer 202 at once. */
  async: boolean;
  /** Milliseconds to wait before a 202. */
  waitMs?: number;
  /** What was understood, for `Preference-Applied`. */
  applied: string;
}

const LONGEST_S = 86_400;

/** Undefined where nothing that is known here was asked for; what is not known is ignored, as the RFC says. */
export function toPreference(header: string | undefined): Preference | undefined {
  if (header === undefined) return undefined;
  let async = false;
  let seconds: number | undefined;
  for (const part of header.split(',')) {
    const [, name, value] = /^\s*([\w-]+)\s*(?:=\s*"?([^";]*)"?)?/.exec(part) ?? [];
    if (name?.toLowerCase() === 'respond-async') async = true;
    else if (name?.toLowerCase() === 'wait' && /^\d{1,9}$/.test(value?.trim() ?? '')) seconds ??= Number(value);
  }
  if (!async && seconds === undefined) return undefined;
  const applied = [...(async ? ['respond-async'] : []), ...(seconds === undefined ? [] : [`wait=${seconds}`])];
  return {
    async,
    applied: applied.join(', '),
    ...(seconds === undefined ? {} : { waitMs: Math.min(seconds, LONGEST_S) * 1000 }),
  };
}
