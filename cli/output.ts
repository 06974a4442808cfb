// What a person or a program sees: data on standard output, everything else on standard error.
import { pathToFileURL } from 'node:url';
import { styleText } from 'node:util';
import type { CommandFailure } from './exit.ts';
import type { Io } from './io.ts';

export interface Output {
  /** A piece of text from a model. Newlines at its end wait: the text as a whole ends with exactly one. */
  text(piece: string): void;
  endText(): void;
  /** Bytes as they are; cleaned for a terminal. */
  raw(piece: Uint8Array): void;
  line(text: string): void;
  /** The path of a file, which people can click on in terminals that know how. */
  path(path: string): void;
  /** A sequence that draws on a terminal: on standard output where that is one, else on standard error. */
  draw(sequence: string): void;
  json(value: unknown): void;
  /** One line of JSON, wherever it goes. */
  jsonLine(value: unknown): void;
  /** Columns for a person; tab-separated rows without a head for a program. */
  table(head: string[], rows: string[][]): void;
  /** About the work, not its result. */
  note(text: string): void;
  /** Where the work stands: rewritten in place on a terminal, else one line for each new `text`. */
  status(text: string, transient?: boolean): void;
  /** Takes the status off the terminal. */
  clearStatus(): void;
  failure(failure: Pick<CommandFailure, 'message' | 'hint'>): void;
  bold(text: string): string;
}

export function createOutput(io: Io, options: { quiet?: boolean; color?: boolean }): Output {
  const { stdout, stderr, env } = io;
  const { quiet = false } = options;
  const color = options.color !== false && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
  const paint = (on: boolean, style: 'dim' | 'red' | 'bold', text: string) =>
    on && color ? styleText(style, text, { validateStream: false }) : text;
  const clean = createCleaner();
  const decoder = new TextDecoder();
  let held = '';
  let wrote = false;
  let status = '';
  let inPlace = false;

  function clearStatus(): void {
    if (inPlace) stderr.write('\r\x1b[K');
    inPlace = false;
  }

  function out(text: string): void {
    clearStatus();
    stdout.write(text);
  }

  const shown = (text: string) => (stderr.isTTY ? sanitize(text) : text);

  return {
    text(piece) {
      const whole = held + (stdout.isTTY ? clean(piece) : piece);
      const end = /\n*$/.exec(whole)!.index;
      held = whole.slice(end);
      if (end === 0) return;
      wrote = true;
      out(whole.slice(0, end));
    },
    endText() {
      if (wrote) out('\n');
      held = '';
      wrote = false;
    },
    raw: (piece) => (stdout.isTTY ? out(clean(decoder.decode(piece, { stream: true }))) : stdout.write(piece)),
    line: (text) => out(`${stdout.isTTY ? sanitize(text) : text}\n`),
    path(path) {
      const links = stdout.isTTY && !/^(dumb|linux)?$/.test(env['TERM'] ?? '');
      const text = stdout.isTTY ? sanitize(path) : path;
      out(links ? `\x1b]8;;${pathToFileURL(path).href}\x1b\\${text}\x1b]8;;\x1b\\\n` : `${text}\n`);
    },
    draw(sequence) {
      clearStatus();
      (stdout.isTTY ? stdout : stderr).write(`${sequence}\n`);
    },
    json: (value) => out(`${JSON.stringify(value, null, stdout.isTTY ? 2 : undefined)}\n`),
    jsonLine: (value) => out(`${JSON.stringify(value)}\n`),
    table(head, rows) {
      if (!stdout.isTTY) return out(rows.map((row) => `${row.map(toCell).join('\t')}\n`).join(''));
      const cells = [head, ...rows].map((row) => row.map((cell) => toCell(sanitize(cell))));
      const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
      const lines = cells.map((row) =>
        row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join('  ')
          .trimEnd(),
      );
      out(lines.map((line, index) => `${index === 0 ? paint(true, 'bold', line) : line}\n`).join(''));
    },
    note(text) {
      if (quiet) return;
      clearStatus();
      stderr.write(`${paint(stderr.isTTY, 'dim', shown(text))}\n`);
    },
    status(text, transient = false) {
      // Once text stands on the screen, a status would be written into the middle of its last line.
      if (quiet || text === status || (wrote && stdout.isTTY)) return;
      if (!stderr.isTTY) {
        if (!transient) stderr.write(`${text}\n`);
        status = text;
        return;
      }
      status = text;
      stderr.write(`\r\x1b[K${paint(true, 'dim', sanitize(text).slice(0, stderr.columns - 1))}`);
      inPlace = true;
    },
    clearStatus() {
      clearStatus();
      status = '';
    },
    failure({ message, hint }) {
      clearStatus();
      const lines = [
        `${paint(stderr.isTTY, 'red', 'hono-ai:')} ${shown(message)}`,
        ...(hint ? [`  ${shown(hint)}`] : []),
      ];
      stderr.write(`${lines.join('\n')}\n`);
    },
    bold: (text) => paint(stdout.isTTY, 'bold', text),
  };
}

/** Text that can move no cursor, set no title and hide nothing: only newlines and tabs are left of what is not print. */
export function sanitize(text: string): string {
  return createCleaner()(text);
}

/** The same for text that comes in pieces: an escape sequence may begin in one and end in another. */
export function createCleaner(): (piece: string) => string {
  let inside: 'text' | 'escape' | 'control' | 'string' = 'text';
  return (piece) => {
    let kept = '';
    for (const character of piece) {
      const code = character.codePointAt(0)!;
      // No sequence spans lines; this bounds what an unfinished one can swallow.
      if (code === 0x0a) inside = 'text';
      if (inside === 'escape') {
        if (character === '[') inside = 'control';
        else if (']PX^_'.includes(character)) inside = 'string';
        else if (code < 0x20 || code > 0x2f) inside = 'text';
      } else if (inside === 'control') {
        if (code >= 0x40 && code <= 0x7e) inside = 'text';
      } else if (inside === 'string') {
        if (code === 0x07 || code === 0x9c) inside = 'text';
        else if (code === 0x1b) inside = 'escape';
      } else if (code === 0x1b) inside = 'escape';
      else if (code === 0x9b) inside = 'control';
      else if (code === 0x90 || (code >= 0x98 && code <= 0x9f && code !== 0x9c)) inside = 'string';
      else if (code === 0x0a || code === 0x09 || (code >= 0x20 && code < 0x7f) || code >= 0xa0) kept += character;
    }
    return kept;
  };
}

const toCell = (text: string) => text.replaceAll(/[\t\n\r]+/g, ' ');
