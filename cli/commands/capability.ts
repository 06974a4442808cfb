// Every capability as a command: its words, flags and help come from the capability's own definition.
import { z } from 'zod';
import type { Capability } from '../../src/capabilities/define.ts';
import { fileFields } from '../../src/capabilities/file.ts';
import { capabilities } from '../../src/capabilities/index.ts';
import { answer, type Form } from '../answer.ts';
import {
  defineGroup,
  defineLeaf,
  type Argument,
  type Command,
  type Flag,
  type Group,
  type Invocation,
} from '../command.ts';
import { detachFlags, refuseJobFlags, toJobOptions, toNextSteps, toRequestHeaders } from '../detach.ts';
import { CommandFailure, exitCodes, usageError } from '../exit.ts';
import { toFields, toFlagName, toFlags } from '../flags.ts';
import { openGiven } from '../given.ts';
import { checkPlan, make, makeFlags, withFormat, type Order } from '../make.ts';
import { readAnswer, withTarget } from '../target.ts';
import { leadingField, readWords } from '../words.ts';
import type { JobView } from '../../src/jobs/view.ts';
import { shapes, type Shape } from './shapes.ts';

type AnyCapability = Capability<string, z.ZodObject, z.ZodObject, z.ZodType>;

const streamFlags: Record<string, Flag> = {
  stream: {
    type: 'boolean',
    negated: true,
    description: 'Print the text when it is complete, not while it is made.',
  },
};

const eventFlags: Record<string, Flag> = {
  'json-stream': { type: 'boolean', description: 'Print each event as a line of JSON, the result last.' },
};

export function loadGroups(): Record<string, Group> {
  const nouns: Record<string, Record<string, Command>> = {};
  for (const capability of Object.values(capabilities) as unknown as AnyCapability[]) {
    // What the gateway does itself has a command of its own, which says more about it.
    if (capability.own) continue;
    const [noun, verb] = capability.cli.command;
    (nouns[noun] ??= {})[verb] = defineCapabilityCommand(capability);
  }
  return Object.fromEntries(
    Object.entries(nouns).map(([noun, commands]) => [
      noun,
      defineGroup(noun, `${noun[0]!.toUpperCase()}${noun.slice(1)}: ${Object.keys(commands).join(', ')}`, commands),
    ]),
  );
}

function defineCapabilityCommand(capability: AnyCapability): Command {
  const { id, path, input, cli, summary, description, makes } = capability;
  const shape = shapes[id] ?? {};
  const streams = !(capability.chunk instanceof z.ZodNever);
  return defineLeaf({
    path: cli.command.join(' '),
    summary,
    details: description,
    argument: describeArgument(capability, shape),
    flags: {
      ...toFlags(input, cli.argument, ['stream', ...(shape.hides ?? [])]),
      ...shape.flags,
      ...(streams ? streamFlags : {}),
      ...(makes ? makeFlags(makes) : {}),
      ...eventFlags,
      ...detachFlags,
    },
    async run(invocation) {
      const { flags } = invocation;
      if (!flags['detach']) refuseJobFlags(invocation);
      const headers = toRequestHeaders(flags);
      const body = await toBody(capability, shape, invocation);
      if (makes) checkPlan(invocation, body);
      const order: Order = { path, headers, settle: await openGiven(invocation, input, body) };
      if (flags['detach']) return detach(invocation, order);
      if (makes) return make(invocation, order);
      const { showChunk, showResult } = cli as {
        showChunk(chunk: unknown): string;
        showResult(result: unknown): string;
      };
      await answer(invocation, { ...order, streams, showChunk, showResult }, toForm(invocation));
    },
  });
}

/** How the words of a command are told of: as text, as files, or as files before the text. */
function describeArgument({ input, cli }: AnyCapability, shape: Shape): Argument {
  const { argument } = cli;
  const own = fileFields(input).get(argument);
  if (own) {
    return {
      hint: own.many ? '[FILE…|-]' : '[FILE|-]',
      description:
        'A file, or the id or link of one that the gateway keeps; - is standard input, and so is what is piped in.',
      max: own.many ? Infinity : 1,
      completes: 'file',
    };
  }
  const about = z.toJSONSchema(input, { io: 'input', unrepresentable: 'any' }).properties?.[argument];
  const told = typeof about === 'object' ? about.description : undefined;
  const [leading] = leadingField(input, argument) ?? [];
  const name = shape.argument ?? argument.toUpperCase();
  const text = `${shape.about ?? told ?? ''} Words are joined; - is standard input, and so is what is piped in.`.trim();
  if (leading === undefined) return { hint: `[${name}…|-]`, description: text, max: Infinity };
  const flag = toFlagName(leading);
  return {
    hint: `[FILE…] [${name}…|-]`,
    description: `${text} Without --${flag}, words before it that are pictures are what --${flag} takes; without those, what is piped in is.`,
    max: Infinity,
    completes: 'file',
  };
}

/** Hands the work over and prints the id of its job. */
function detach(invocation: Invocation, { path, headers, settle }: Order): Promise<void> {
  const { out, flags } = invocation;
  return withTarget(invocation, async (target) => {
    const job = toJobOptions(flags);
    const body = await settle(target);
    const reply = await target.send({
      method: 'POST',
      path,
      body: JSON.stringify(job ? { ...body, job } : body),
      headers: { ...headers, prefer: 'respond-async' },
    });
    const view = (await readAnswer(reply)) as JobView;
    if (view.object !== 'job') {
      throw new CommandFailure(exitCodes.failure, 'The gateway did not take this as a job.', { code: 'not_supported' });
    }
    if (flags['json-stream']) out.jsonLine({ type: 'result', result: view });
    else if (flags.json) out.json(view);
    else out.line(view.id);
    out.note(toNextSteps(view, target.url !== undefined));
  });
}

/** Throws a usage error that names the flag for what the schema would refuse. */
async function toBody(
  { input, cli, makes }: AnyCapability,
  shape: Shape,
  invocation: Invocation,
): Promise<Record<string, unknown>> {
  const { argument } = cli;
  const { flags } = invocation;
  const options = { input, argument, appendsStdin: shape.appendsStdin };
  const { fields, text } = await readWords(invocation, toFields(input, flags), options);
  if (text !== undefined && fields[argument] !== undefined && !shape.toBody) {
    throw usageError(`Both --${toFlagName(argument)} and words were given; one of them is enough.`);
  }
  const said = shape.toBody?.(fields, text, flags) ?? {
    ...fields,
    ...(text === undefined ? {} : { [argument]: text }),
  };
  const body = makes ? withFormat(input, said, flags['output']) : said;
  const checked = input.safeParse(body);
  if (checked.success) return body;
  const issue = checked.error.issues[0]!;
  const field = String(issue.path[0] ?? '');
  if (field === argument && body[argument] === undefined) {
    const hint = shape.argument ?? (fileFields(input).has(argument) ? 'FILE' : argument.toUpperCase());
    throw usageError(`${cli.command.join(' ')} needs ${hint}.`, 'Give it as words, or pipe it in.');
  }
  const missing = issue.code === 'invalid_type' && body[field] === undefined;
  throw usageError(`--${toFlagName(field)}: ${missing ? 'is needed' : issue.message}`);
}

function toForm({ flags }: Invocation): Form {
  if (flags['json-stream']) return 'events';
  if (flags.json) return 'json';
  return flags['stream'] === false ? 'whole' : 'text';
}
