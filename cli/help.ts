// Help texts, from the same definitions that the parser reads.
import { globalFlags, type Command, type Flag, type Group } from './command.ts';

const EXIT_CODES = [
  ['0', 'ok'],
  ['1', 'failure'],
  ['2', 'wrong usage, or input that the gateway refused'],
  ['3', 'no such model or path'],
  ['4', 'the key is missing or wrong'],
  ['5', 'the gateway or its runtime cannot be reached'],
  ['6', 'busy, or a limit is reached; try again later'],
  ['124', 'timed out'],
  ['130', 'cancelled'],
];

export function commandHelp(command: Command, width: number): string {
  const { path, summary, details, argument, flags } = command;
  const own = Object.entries(flags).filter(([name]) => !(name in globalFlags));
  const common = Object.entries(flags).filter(([name]) => name in globalFlags);
  const about = [details, argument?.description && `${argument.hint}: ${argument.description}`].filter(Boolean);
  return [
    `${summary}.`,
    '',
    `Usage: hono-ai ${path}${own.length > 0 ? ' [flags]' : ''}${argument ? ` ${argument.hint}` : ''}`,
    ...about.flatMap((text) => ['', ...wrap(text!, width)]),
    ...(own.length > 0 ? ['', 'Flags', ...columns(own.map(toRow), width)] : []),
    '',
    'Flags of every command',
    ...columns(common.map(toRow), width),
    '',
  ].join('\n');
}

export function groupHelp({ path, summary, commands, alone }: Group, width: number): string {
  const rows = Object.values(commands).map((command) => [command.path, command.summary]);
  const own = Object.entries(alone?.flags ?? {}).filter(([name]) => !(name in globalFlags));
  return [
    `${summary}.`,
    '',
    ...(alone
      ? [`Usage: hono-ai ${path} [flags]`, `       hono-ai ${path} <command>`]
      : [`Usage: hono-ai ${path} <command>`]),
    '',
    ...columns(rows, width),
    ...(own.length > 0 ? ['', `Flags of hono-ai ${path}`, ...columns(own.map(toRow), width)] : []),
    '',
    `hono-ai ${path} <command> --help tells more.`,
    '',
  ].join('\n');
}

export function rootHelp(commands: Command[], width: number): string {
  return [
    'One front door for everything a home GPU can generate.',
    '',
    'Usage: hono-ai <command> [flags]',
    '',
    'Commands',
    ...columns(
      commands.map(({ path, summary }) => [path, summary]),
      width,
    ),
    '',
    'Flags of every command',
    ...columns(Object.entries(globalFlags).map(toRow), width),
    '',
    'Exit codes',
    ...columns(EXIT_CODES, width),
    '',
    'Requests go to --url, else to the gateway that runs on this machine, else to one inside this process.',
    '',
  ].join('\n');
}

function toRow([name, flag]: [string, Flag]): string[] {
  const letter = flag.alias ? `-${flag.alias}, ` : '    ';
  const hint =
    flag.type === 'boolean' ? '' : ` ${flag.options && !flag.read ? flag.options.join('|') : flag.valueHint}`;
  const again = flag.multiple ? ' (may be repeated)' : '';
  return [`${letter}--${flag.negated ? 'no-' : ''}${name}${hint}`, `${flag.description ?? ''}${again}`.trim()];
}

/** Two columns; a left side that is too long has its line for itself. */
function columns(rows: (readonly string[])[], width: number): string[] {
  const indent = Math.min(34, Math.max(...rows.map(([left]) => left!.length))) + 4;
  return rows.flatMap(([left, right]) => {
    const lines = wrap(right ?? '', Math.max(30, width - indent));
    const first = `  ${left}`;
    if (lines.length === 0) return [first];
    if (first.length > indent - 2) return [first, ...lines.map((line) => ' '.repeat(indent) + line)];
    return lines.map((line, index) => (index === 0 ? first : '').padEnd(indent) + line);
  });
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/).filter(Boolean)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return line === '' ? lines : [...lines, line];
}
