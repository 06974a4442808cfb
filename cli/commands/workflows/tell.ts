// What the commands of workflows share: how problems are told, and where one workflow is.
import type { WorkflowProblem } from '../../../src/workflows.ts';
import type { Invocation } from '../../command.ts';
import { usageError } from '../../exit.ts';

export const LISTED = 'hono-ai workflows ls lists them.';

export function toPath(verb: string, id: string | undefined): string {
  if (id === undefined) throw usageError(`workflows ${verb} needs ID.`, LISTED);
  return `/workflows/${encodeURIComponent(id)}`;
}

export function tellProblems({ out }: Invocation, problems: WorkflowProblem[]): void {
  for (const problem of problems) {
    out.line(toLine(problem));
    if (problem.hint) out.line(`  ${problem.hint}`);
  }
}

/** `sample (KSampler) scheduler: …`. */
export function toLine({ node, class_type, input, message }: WorkflowProblem): string {
  const where = [node, class_type ? `(${class_type})` : '', input ?? ''].filter(Boolean).join(' ');
  return where ? `${where}: ${message}` : message;
}
