// What is wrong with this machine and the services on it, and how each of it is mended.
import { z } from 'zod';

export const findingView = z.object({
  id: z.string().describe('What was looked at: ollama, card.groups, disk, …'),
  area: z.enum(['gateway', 'runtime', 'card', 'disk', 'network', 'software']),
  level: z.enum(['ok', 'info', 'warn', 'fail']),
  message: z.string().describe('One line.'),
  fix: z.string().nullable().describe('What mends it, in one line: a command, or what to do.'),
  fixable: z.boolean().describe('doctor --fix can do it.'),
});
export type Finding = z.output<typeof findingView>;

export const checkupView = z.object({
  object: z.literal('checkup'),
  ok: z.boolean().describe('Nothing failed.'),
  findings: z.array(findingView),
  fixed: z.array(z.string()).describe('Ids of what was mended just now.'),
});
export type Checkup = z.output<typeof checkupView>;

export interface Doctor {
  /** Looks at everything, side by side, each within a few seconds. `fix` mends what can be mended without asking anybody. Never throws. */
  examine(options: { fix: boolean; signal: AbortSignal }): Promise<Checkup>;
}
