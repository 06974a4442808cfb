// Spans of time as people write them: 90s, 30m, 2h, 1h30m.

const SPAN = /^(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?$/;

/** Milliseconds; undefined for what is no span, or none at all. */
export function readSpan(text: string): number | undefined {
  const [whole, hours = 0, minutes = 0, seconds = 0] = SPAN.exec(text.trim().toLowerCase()) ?? [];
  const ms = (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1000;
  return whole && ms > 0 ? ms : undefined;
}
