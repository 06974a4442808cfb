// What a workflow makes where a request does not say: from the defaults of its binding, else from its graph.
import type { CapabilityId } from '../../../src/capabilities/index.ts';
import type { Model, Usual } from '../../../src/runtime.ts';
import type { Bindable } from './bind.ts';
import type { Param } from './binding.ts';

const FIELDS = ['width', 'height', 'frames', 'fps', 'seconds', 'steps'] as const satisfies (Param & keyof Usual)[];

/** Of several workflows for a capability the first counts: requests that leave things open mostly get that one. */
export function toUsual(workflows: readonly Bindable[]): Required<Pick<Model, 'usual'>> {
  const usual: Partial<Record<CapabilityId, Usual>> = {};
  for (const workflow of workflows) usual[workflow.capability] ??= toValues(workflow);
  return { usual };
}

function toValues({ binding, graph }: Bindable): Usual {
  const found = FIELDS.flatMap((field) => {
    const [place] = binding.params[field] ?? [];
    if (!place) return [];
    const { node, input, scale = 1, default: value } = place;
    const given = value ?? (Object.hasOwn(graph, node) ? graph[node]!.inputs[input] : undefined);
    const number = typeof given === 'number' ? given / (value === undefined ? scale : 1) : NaN;
    return number > 0 && Number.isFinite(number) ? [[field, number] as const] : [];
  });
  // What it has no place for is left out: then it makes one, however many were asked for.
  return { ...Object.fromEntries(found), ...(binding.params.n ? {} : { batch: 1 }) };
}
