// `doctor`: what is wrong with the machine and the services on it, each finding in one line with what mends it.
import type { Checkup, Finding } from '../../src/doctor.ts';
import { defineLeaf } from '../command.ts';
import { exitCodes } from '../exit.ts';
import { askJson, withTarget } from '../target.ts';

const MARKS: Record<Finding['level'], string> = { ok: '✓', info: 'i', warn: '!', fail: '✗' };
const WORST_FIRST: Finding['level'][] = ['fail', 'warn', 'info', 'ok'];

export const doctor = defineLeaf({
  path: 'doctor',
  summary: 'Look for what is wrong: runtimes, card, drivers, groups, disk, ports, versions',
  details: 'Exit code 1 where something failed. It looks at the machine of the gateway that answers.',
  flags: {
    fix: { type: 'boolean', description: 'Mend what can be mended without asking, and tell what was.' },
    all: { type: 'boolean', description: 'Show what is well, too.' },
  },
  async run(invocation) {
    const { out, flags, io } = invocation;
    const checkup = await withTarget(invocation, (target) =>
      askJson<Checkup>(
        target,
        flags['fix']
          ? { method: 'POST', path: '/system/doctor', body: JSON.stringify({ fix: true }) }
          : { method: 'GET', path: '/system/doctor' },
      ),
    );
    const code = checkup.ok ? exitCodes.ok : exitCodes.failure;
    if (flags.json) {
      out.json(checkup);
      return code;
    }
    const shown = WORST_FIRST.flatMap((level) => checkup.findings.filter((finding) => finding.level === level));
    const worth = shown.filter(({ level }) => level !== 'ok' || flags['all']);
    for (const { id, level, message, fix } of worth) {
      if (!io.stdout.isTTY) out.line([level, id, message, fix ?? ''].join('\t'));
      else {
        out.line(`${MARKS[level]} ${id}: ${message}`);
        if (fix !== null) out.line(`  → ${fix}`);
      }
    }
    const counts = WORST_FIRST.flatMap((level) => {
      const count = shown.filter((finding) => finding.level === level).length;
      return count > 0 ? [`${count} ${level}`] : [];
    });
    for (const id of checkup.fixed) out.note(`${id}: mended`);
    out.note(counts.join(', '));
    if (!flags['fix'] && shown.some(({ fixable, level }) => fixable && level !== 'ok')) {
      out.note('Some of it can be mended here: hono-ai doctor --fix');
    }
    return code;
  },
});
