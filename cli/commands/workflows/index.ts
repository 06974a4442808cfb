// `workflows`: graphs that ComfyUI runs as models: which there are, those of your own, and running one by its name.
import { capabilities } from '../../../src/capabilities/index.ts';
import type { WorkflowCheck, WorkflowDetails, WorkflowView } from '../../../src/workflows.ts';
import { defineGroup, defineLeaf, type Flag } from '../../command.ts';
import { exitCodes, usageError } from '../../exit.ts';
import { defineRemoval } from '../../remove.ts';
import { askJson, getJson, withTarget } from '../../target.ts';
import { readProposal, toId } from './proposal.ts';
import { run } from './run.ts';
import { LISTED, tellProblems, toLine, toPath } from './tell.ts';

/** As the gateway takes them. */
const ID = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** What makes files: only that can be a workflow. */
const makers = Object.values(capabilities).filter(({ makes }) => makes !== undefined);

const bindingFlag: Flag = {
  type: 'string',
  valueHint: 'FILE',
  description: 'What of a request goes where. NAME.binding.json beside the graph is found by itself.',
  completes: 'file',
};
const capabilityFlag: Flag = {
  type: 'enum',
  options: makers.map(({ id }) => id),
  valueHint: 'CAPABILITY',
  description: 'What it does, where that cannot be seen in the graph and no binding says it.',
};

const ls = defineLeaf({
  path: 'workflows ls',
  summary: 'List workflows, and whether they can run',
  flags: { ids: { type: 'boolean', description: 'Print only ids, one a line.' } },
  async run(invocation) {
    const { out, flags } = invocation;
    const { value } = await getJson<{ data: WorkflowView[] }>(invocation, '/workflows');
    if (flags.json) return out.json(value);
    if (flags['ids']) return value.data.forEach(({ id }) => out.line(id));
    if (value.data.length === 0) return out.note('No workflows: start ComfyUI and set HONO_AI_COMFYUI_URL.');
    out.table(
      ['WORKFLOW', 'MODEL', 'CAN', 'FROM', 'STATE', 'PROBLEM'],
      value.data.map(({ id, model, capability, origin, state, problems }) => [
        id,
        model ?? '-',
        capability ?? '-',
        origin,
        state,
        problems[0] ? toLine(problems[0]) : '',
      ]),
    );
  },
});

const show = defineLeaf({
  path: 'workflows show',
  summary: 'Show one workflow: what is bound, and what is wrong with it',
  details: 'With --json also its graph and its binding.',
  argument: { hint: 'ID', description: LISTED, max: 1 },
  flags: {},
  async run(invocation) {
    const { out, flags, words } = invocation;
    const { value } = await getJson<WorkflowDetails>(invocation, toPath('show', words[0]));
    if (flags.json) return out.json(value);
    const { id, title, model, capability, runtime, origin, state, bound, problems } = value;
    out.table(
      ['FIELD', 'VALUE'],
      Object.entries({ id, title, model, capability, runtime, origin, state })
        .filter(([, text]) => text !== null)
        .map(([field, text]) => [field, String(text)]),
    );
    for (const line of bound) out.line(line);
    tellProblems(invocation, problems);
  },
});

const add = defineLeaf({
  path: 'workflows add',
  summary: 'Make a graph of your own a model',
  details:
    'FILE is what ComfyUI’s Workflow → Export (API) writes. Prints the id, and tells what of a request goes where.',
  argument: { hint: 'FILE|-', description: 'The graph; - is standard input.', max: 1, completes: 'file' },
  flags: {
    id: { type: 'string', valueHint: 'ID', description: 'What it is called; the name of the file if absent.' },
    binding: bindingFlag,
    capability: capabilityFlag,
    replace: { type: 'boolean', description: 'Write over one of yours with this id.' },
  },
  async run(invocation) {
    const { out, flags, words } = invocation;
    const [file] = words;
    if (file === undefined)
      throw usageError('workflows add needs FILE.', 'Export one in ComfyUI: Workflow → Export (API).');
    const id = (flags['id'] as string | undefined) ?? toId(file);
    if (!ID.test(id)) {
      throw usageError(
        `--id: “${id}” is no id.`,
        'Small letters, digits, . _ and -, at most 64; a letter or digit first.',
      );
    }
    const body = { id, ...(await readProposal(invocation, file)), ...(flags['replace'] ? { replace: true } : {}) };
    await withTarget(invocation, async (target) => {
      const added = await askJson<WorkflowDetails>(target, {
        method: 'POST',
        path: '/workflows',
        body: JSON.stringify(body),
      });
      if (flags.json) return out.json(added);
      out.line(added.id);
      for (const line of added.bound) out.note(line);
      for (const problem of added.problems) out.note(toLine(problem));
      out.note(`Run it: hono-ai workflows run ${added.id}${added.binding?.['params'] ? ' "…"' : ''}`);
    });
  },
});

const validate = defineLeaf({
  path: 'workflows validate',
  summary: 'Check graphs against what ComfyUI has, without keeping them',
  details: 'Tells every problem with its node and input. Ends with 1 where a graph itself is wrong.',
  argument: { hint: 'FILE…', description: 'Graphs in the API format.', max: Infinity, completes: 'file' },
  flags: { binding: bindingFlag, capability: capabilityFlag },
  async run(invocation) {
    const { out, flags, words } = invocation;
    if (words.length === 0) throw usageError('workflows validate needs FILE.');
    if (words.length > 1 && flags['binding'] !== undefined) throw usageError('--binding is for one FILE.');
    const checks: ({ file: string } & WorkflowCheck)[] = [];
    await withTarget(invocation, async (target) => {
      for (const file of words) {
        const body = JSON.stringify(await readProposal(invocation, file));
        const check = await askJson<WorkflowCheck>(target, { method: 'POST', path: '/workflows/validate', body });
        checks.push({ file, ...check });
        if (flags.json) continue;
        out.line(`${file}: ${check.ok ? 'ok' : 'wrong'}`);
        tellProblems(invocation, check.problems);
        for (const line of check.bound) out.note(line);
        if (!check.checked) out.note('ComfyUI does not answer: what it has was not looked at.');
      }
    });
    if (flags.json) out.json(checks.length === 1 ? checks[0] : { object: 'list', data: checks });
    return checks.every(({ ok }) => ok) ? exitCodes.ok : exitCodes.failure;
  },
});

const rm = defineRemoval({
  command: 'workflows rm',
  summary: 'Remove workflows of yours',
  toPath: (id) => toPath('rm', id),
  told: 'removed',
  argument: { hint: '[ID…|-]', description: `Ids; - reads them from standard input. ${LISTED}`, max: Infinity },
  check(id) {
    if (!ID.test(id)) throw usageError(`“${id}” is no id of a workflow.`);
    return id;
  },
});

export const workflows = defineGroup('workflows', 'ComfyUI workflows as models: ls, show, add, validate, rm, run', {
  ls,
  show,
  add,
  validate,
  rm,
  run,
});
