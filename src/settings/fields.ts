// What settings are written with: their kinds of values, and whether they have a default, are secret, or are off unless set.
import { z } from 'zod';

/** `12GB`, `512 MB` or a number of bytes. */
export const bytes = z.union([z.number(), z.string()]).transform((value, context) => {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])i?b?|b)?\s*$/i.exec(String(value));
  if (!match) {
    context.addIssue({ code: 'custom', message: 'a size such as 512MB or 12GB' });
    return z.NEVER;
  }
  const power = match[2] ? 'kmgt'.indexOf(match[2].toLowerCase()) + 1 : 0;
  return Math.round(Number(match[1]) * 1024 ** power);
});
export const milliseconds = z.coerce.number().int().min(1).max(86_400_000);
export const duration = z.coerce.number().int().min(1).max(31_622_400_000);
export const count = z.coerce.number().int().min(1).max(100_000_000);
export const flag = z.union([
  z.boolean(),
  z.enum(['true', 'false', '1', '0', 'yes', 'no']).transform((word) => ['true', '1', 'yes'].includes(word)),
]);
export const list = z.union([
  z.array(z.string()),
  z.string().transform((line) =>
    line
      .split(',')
      .map((item) => item.trim())
      .filter(Boolean),
  ),
]);
/** `name:value,name:value`, or a map in the file. */
export const pairs = (example: string) =>
  z.union(
    [
      z.record(z.string(), z.string()),
      list
        .transform((entries) => entries.map((entry) => /^([a-z0-9][a-z0-9._-]*):(.+)$/i.exec(entry)?.slice(1)))
        .refine((found) => found.every(Boolean))
        .transform((found): Record<string, string> => Object.fromEntries(found as [string, string][])),
    ],
    { error: example },
  );
export const numbers = (example: string, least: number, most: number) =>
  z.union([z.record(z.string(), z.number()), pairs(example)], { error: example }).transform((found, context) => {
    const entries = Object.entries(found).map(([name, value]) => [name, Number(value)] as const);
    if (entries.every(([, value]) => value >= least && value <= most)) return Object.fromEntries(entries);
    context.addIssue({ code: 'custom', message: example });
    return z.NEVER;
  });
export const url = z.url({ protocol: /^https?$/, error: 'an http:// or https:// address' });

export interface Setting<T extends z.ZodType> {
  env: string;
  schema: T;
  /** As it would be written in the environment; absent where the setting is off unless set. */
  default?: z.input<T>;
  about: string;
  secret?: boolean;
}

export const setting = <T extends z.ZodType>(env: string, schema: T, fallback: z.input<T>, about: string) => ({
  env,
  schema,
  default: fallback,
  about,
});
export const optional = <T extends z.ZodType>(env: string, schema: T, about: string): Setting<T> => ({
  env,
  schema,
  about,
});
export const secret = <T extends z.ZodType>(env: string, schema: T, about: string): Setting<T> => ({
  env,
  schema,
  about,
  secret: true,
});
