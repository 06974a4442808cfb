// Every capability as a command: its words, flags and help come from the capability's own definition.
import { z } from 'zod';
import type { Capability } from '../../src/capabilities/define.ts';
import { capabilities } from '../../src/capabilities/index.ts';
import { answer, type Form } from '../answer.ts';
import { defineGroup, defineLeaf, type Command, type Flag, type Group, type Invocation } from '../command.ts';
import { detachFlags, refuseJobFlags, toJobOptions, toNextSteps, toRequestHeaders } from '../detach.ts';
import { CommandFailure, exitCodes, usageError } from '../exit.ts';
import { toFields, toFlagName, toFlags } from '../flags.ts';
import { readStdin } from '../stdin.ts';
import { readAnswer, withTarget } from '../target.ts';
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
  const { id, input, cli, summary, description } = capability;
  const shape = shapes[id] ?? {};
  const streams = !(capability.chunk instanceof z.ZodNever);
  const about = z.toJSONSchema(input, { io: 'input', unrepresentable: 'any' }).properties?.[cli.argument];
  const told = typeof about === 'object' ? about.description : undefined;
  return defineLeaf({
    path: cli.command.join(' '),
    summary,
    details: description,
    argument: {
      hint: `[${shape.argument ?? cli.argument.toUpperCase()}…|-]`,
      description:
        `${shape.about ?? told ?? ''} Words are joined; - is standard input, and so is what is piped in.`.trim(),
      max: Infinity,
    },
    flags: {
      ...toFlags(input, cli.argument, ['stream', ...(shape.hides ?? [])]),
      ...shape.flags,
      ...(streams ? streamFlags : {}),
      ...eventFlags,
      ...detachFlags,
    },
    async run(invocation) {
      if (!invocation.flags['detach']) refuseJobFlags(invocation);
      const headers = toRequestHeaders(invocation.flags);
      const body = await toBody(capability, shape, invocation);
      const { path } = capability;
      if (invocation.flags['detach']) return detach(invocation, path, body, headers);
      const { showChunk, showResult } = cli as {
        showChunk(chunk: unknown): string;
        showResult(result: unknown): string;
      };
      await answer(invocation, { path, body, headers, streams, showChunk, showResult }, toForm(invocation));
    },
  });
}

/** Hands the work over and prints the id of its job. */
function detach(
  invocation: Invocation,
  path: string,
  body: Record<string, unknown>,
  headers: Record<string, string>,
): Promise<void> {
  const { out, flags } = invocation;
  return withTarget(invocation, async (target) => {
    const job = toJobOptions(flags);
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
  { input, cli }: AnyCapability,
  shape: Shape,
  invocation: Invocation,
): Promise<Record<string, unknown>> {
  const { argument } = cli;
  const { flags } = invocation;
  const fields = toFields(input, flags);
  const text = await readArgument(invocation, shape, fields[argument] !== undefined);
  if (text !== undefined && fields[argument] !== undefined && !shape.toBody) {
    throw usageError(`Both --${toFlagName(argument)} and words were given; one of them is enough.`);
  }
  const body = shape.toBody?.(fields, text, flags) ?? {
    ...fields,
    ...(text === undefined ? {} : { [argument]: text }),
  };
  const checked = input.safeParse(body);
  if (checked.success) return body;
  const issue = checked.error.issues[0]!;
  const field = String(issue.path[0] ?? '');
  if (field === argument && body[argument] === undefined) {
    const hint = shape.argument ?? argument.toUpperCase();
    throw usageError(`${cli.command.join(' ')} needs ${hint}.`, 'Give it as words, or pipe it in.');
  }
  const missing = issue.code === 'invalid_type' && body[field] === undefined;
  throw usageError(`--${toFlagName(field)}: ${missing ? 'is needed' : issue.message}`);
}

/** The words, standard input, or both with a blank line between. */
async function readArgument(invocation: Invocation, shape: Shape, givenAsFlag: boolean): Promise<string | undefined> {
  const { words, io } = invocation;
  const own = words.filter((word) => word !== '-');
  const asked = own.length < words.length;
  const piped = words.length === 0 ? !givenAsFlag && !io.stdin.isTTY : shape.appendsStdin && io.stdin.redirected;
  const parts = own.length > 0 ? [own.join(' ')] : [];
  if (asked || piped) {
    const text = await readStdin(invocation);
    // Asked for by name, nothing is an answer too; and an empty prompt is refused in better words further on.
    if (text !== '') parts.push(text);
  }
  return parts.length > 0 ? parts.join('\n\n') : undefined;
}

function toForm({ flags }: Invocation): Form {
  if (flags['json-stream']) return 'events';
  if (flags.json) return 'json';
  return flags['stream'] === false ? 'whole' : 'text';
}
