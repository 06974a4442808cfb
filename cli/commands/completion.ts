// `completion`: a script for the shell, from the same tree of commands that the parser walks.
import { defineLeaf, type Command, type Flag } from '../command.ts';
import { usageError } from '../exit.ts';
import { nearest } from '../nearest.ts';

const SHELLS = ['bash', 'zsh', 'fish'];
/** Names come from the gateway, so they are only ever read as lines, never evaluated. */
const MODELS = 'hono-ai models ls --ids -q --timeout 5 2>/dev/null';

/** The tree comes from outside: this command is itself a part of it. */
export function createCompletion(loadCommands: () => Promise<Command[]>): Command {
  return defineLeaf({
    path: 'completion',
    summary: 'Print the completion script of a shell',
    details:
      'bash: source <(hono-ai completion bash). zsh: source <(hono-ai completion zsh) after compinit. fish: hono-ai completion fish | source.',
    argument: { hint: 'bash|zsh|fish', max: 1 },
    flags: {},
    async run({ words, io }) {
      const [shell = ''] = words;
      const commands = await loadCommands();
      if (shell === 'bash') io.stdout.write(toBash(commands));
      else if (shell === 'zsh') io.stdout.write(toZsh(commands));
      else if (shell === 'fish') io.stdout.write(toFish(commands));
      else {
        const near = nearest(shell, SHELLS);
        throw usageError(`completion needs one of ${SHELLS.join(', ')}.`, near && `Did you mean ${near}?`);
      }
    },
  });
}

interface Values {
  /** As a pattern of the shells' `case`: `--model|-m`. */
  names: string;
  options: string[] | undefined;
  completes: Flag['completes'];
}

function toBash(commands: Command[]): string {
  return `# bash completion of hono-ai; made by: hono-ai completion bash
_hono_ai_offer() { local word; while IFS= read -r word; do [[ $word == "$cur"* ]] && COMPREPLY+=("$word"); done; }
_hono_ai() {
  local cur prev line="" word index
  if declare -F _get_comp_words_by_ref >/dev/null; then local words cword; _get_comp_words_by_ref -n : cur prev words cword
  else cur="\${COMP_WORDS[COMP_CWORD]}"; prev="\${COMP_WORDS[COMP_CWORD - 1]}"; fi
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    case "$line $word" in ${toPrefixes(commands).join('|')}) line="$line $word" ;; esac
  done
${toCases(commands, 'bash')}
}
complete -F _hono_ai hono-ai
`;
}

function toZsh(commands: Command[]): string {
  return `#compdef hono-ai
# zsh completion of hono-ai; made by: hono-ai completion zsh
_hono_ai_offer() { local -a offered; offered=("\${(@f)$(cat)}"); compadd -- $offered; }
_hono_ai() {
  local cur="\${words[CURRENT]}" prev="\${words[CURRENT-1]}" line="" word
  local -i index
  for ((index = 2; index < CURRENT; index++)); do
    word="\${words[index]}"
    case "$line $word" in (${toPrefixes(commands).join('|')}) line="$line $word" ;; esac
  done
${toCases(commands, 'zsh')}
}
if [[ "$funcstack[1]" == _hono_ai ]]; then _hono_ai "$@"; else compdef _hono_ai hono-ai; fi
`;
}

/** What both shells do: by the command so far and the word before, offer values, flags or command words. */
function toCases(commands: Command[], shell: 'bash' | 'zsh'): string {
  const files = shell === 'bash' ? '_hono_ai_offer < <(compgen -f -- "$cur")' : '_files';
  const offer = (words: string[]) => `printf '%s\\n' ${words.map(quote).join(' ')}`;
  const pipe = (source: string) => (shell === 'bash' ? `_hono_ai_offer < <(${source})` : `${source} | _hono_ai_offer`);
  const values = commands.flatMap(({ path, flags }) =>
    toValues(flags).map(({ names, options, completes }) => {
      const pattern = names
        .split('|')
        .map((name) => quote(` ${path} ${name}`))
        .join('|');
      const action = completes === 'model' ? pipe(MODELS) : completes === 'file' ? files : pipe(offer(options ?? []));
      return `    (${pattern}) ${action}; return ;;`;
    }),
  );
  const flags = commands.map(({ path, flags }) => `    (${quote(` ${path}`)}) ${pipe(offer(toNames(flags)))} ;;`);
  const next = [...toWords(commands)].map(([line, words]) => `    (${quote(line)}) ${pipe(offer(words))} ;;`);
  for (const { path } of commands.filter(takes('file'))) next.push(`    (${quote(` ${path}`)}) ${files} ;;`);
  for (const { path } of commands.filter(takes('model'))) next.push(`    (${quote(` ${path}`)}) ${pipe(MODELS)} ;;`);
  return `  case "$line $prev" in
${values.join('\n')}
  esac
  if [[ $cur == -* ]]; then
    case "$line" in
${flags.join('\n')}
    esac
    return
  fi
  case "$line" in
${next.join('\n')}
  esac`;
}

function toFish(commands: Command[]): string {
  const lines = [
    '# fish completion of hono-ai; made by: hono-ai completion fish',
    'function __hono_ai_at',
    "  set -l words (string match -v -- '-*' (commandline -opc)[2..])",
    '  set -l wanted (count $argv)',
    '  test "$words[1..$wanted]" = "$argv"',
    'end',
    'function __hono_ai_after',
    "  set -l words (string match -v -- '-*' (commandline -opc)[2..])",
    '  test "$words" = "$argv"',
    'end',
    'complete -c hono-ai -f',
  ];
  for (const [line, words] of toWords(commands)) {
    for (const word of words) {
      const command = commands.find(({ path }) => path === `${line} ${word}`.trim());
      lines.push(
        `complete -c hono-ai -n '__hono_ai_after${line}' -a ${quote(word)}${command ? ` -d ${quote(command.summary)}` : ''}`,
      );
    }
  }
  for (const { path } of commands.filter(takes('file'))) lines.push(`complete -c hono-ai -n '__hono_ai_at ${path}' -F`);
  for (const { path } of commands.filter(takes('model'))) {
    lines.push(`complete -c hono-ai -n '__hono_ai_at ${path}' -a ${quote(`(${MODELS})`)}`);
  }
  for (const { path, flags } of commands) {
    for (const [name, flag] of Object.entries(flags)) {
      const { type, alias, options, completes, description = '', negated } = flag;
      const value =
        completes === 'model'
          ? ` -x -a ${quote(`(${MODELS})`)}`
          : completes === 'file'
            ? ' -r -F'
            : options
              ? ` -x -a ${quote(options.join(' '))}`
              : ' -x';
      lines.push(
        `complete -c hono-ai -n '__hono_ai_at ${path}' -l ${negated ? 'no-' : ''}${name}${alias ? ` -s ${alias}` : ''}${type === 'boolean' ? '' : value} -d ${quote(description.slice(0, 80))}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Commands whose words are of a kind. */
function takes(kind: 'file' | 'model') {
  return ({ argument }: Command) => argument?.completes === kind;
}

function toValues(flags: Record<string, Flag>): Values[] {
  return Object.entries(flags)
    .filter(([, { type, options, completes }]) => type !== 'boolean' && (options || completes))
    .map(([name, { alias, options, completes }]) => ({
      names: alias ? `--${name}|-${alias}` : `--${name}`,
      options,
      completes,
    }));
}

function toNames(flags: Record<string, Flag>): string[] {
  return Object.entries(flags).map(([name, { negated }]) => `--${negated ? 'no-' : ''}${name}`);
}

/** What was typed so far → the words that may follow: '' → text, models …; ' text' → gen, chat …. */
function toWords(commands: Command[]): Map<string, string[]> {
  const words = new Map<string, string[]>();
  for (const { path } of commands) {
    const [noun, verb] = path.split(' ') as [string, string?];
    const nouns = words.get('') ?? [];
    if (!nouns.includes(noun)) words.set('', [...nouns, noun]);
    if (verb) words.set(` ${noun}`, [...(words.get(` ${noun}`) ?? []), verb]);
  }
  words.set(' completion', SHELLS);
  return words;
}

/** Every beginning of a command, quoted as a pattern. */
function toPrefixes(commands: Command[]): string[] {
  const lines = commands.flatMap(({ path }) => [path.split(' ')[0]!, path]);
  return [...new Set(lines)].map((line) => quote(` ${line}`));
}

/** For all three shells: single quotes, in which fish knows two escapes that the others would not need. */
function quote(text: string): string {
  return `'${text.replaceAll('\\', '').replaceAll("'", '’')}'`;
}
