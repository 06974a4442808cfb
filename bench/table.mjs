// Turns a result into Markdown: one overview of CPU time, then one table per cell with ratios to nginx and to bare Hono on Node.
import fs from 'node:fs';
import { cells } from './cells.mjs';

const dash = '-';

export function toTables(results) {
  const present = cells.filter((cell) => Object.keys(results.cells[cell.name] ?? {}).length);
  const how = `${results.rounds} interleaved rounds, medians, ${results.pinned ? 'pinned' : 'not pinned: one CPU, or no taskset'}`;
  const counted = results.instructions ? `instructions: ${results.instructions}` : 'no instruction counters here';
  const idle = Object.entries(results.idleMb).map(([name, mb]) => `${name} ${mb}`);
  return [
    `Measured ${results.measured}; ${how}; ${counted}.`,
    `## CPU microseconds per unit (x nginx)\n\n${overview(results, present)}`,
    ...present.map((cell) => `## ${cell.name}: ${cell.about}\n\n${details(results, cell)}`),
    `Idle memory, MB with shared pages split: ${idle.join(', ')}.`,
  ].join('\n\n');
}

function overview(results, present) {
  const names = Object.keys(results.idleMb).filter((name) => name !== 'direct');
  const rows = names.map((name) => [
    name,
    ...present.map((cell) => {
      const row = results.cells[cell.name][name];
      if (!row) return dash;
      if (row.failed) return 'failed';
      const limit = results.cells[cell.name].nginx?.cpuUs;
      return limit ? `${digits(row.cpuUs)} (${digits(row.cpuUs / limit)}x)` : digits(row.cpuUs);
    }),
  ]);
  return table(['gateway', ...present.map((cell) => cell.name)], rows);
}

function details(results, cell) {
  const rows = results.cells[cell.name];
  const { direct, nginx, 'hono-node': hono } = rows;
  const columns = [
    [`CPU us/${cell.unit}`, (row) => digits(row.cpuUs)],
    ['min', (row) => digits(row.cpuUsMin)],
    ['x nginx', (row) => ratio(row.cpuUs, nginx?.cpuUs)],
    ['x hono-node', (row) => ratio(row.cpuUs, hono?.cpuUs)],
    [`${cell.unit}s/s`, (row) => digits(row.perSecond)],
    ['busy', (row) => digits(row.busy)],
    ['added p50 us', (row) => added(row.latencyP50, direct?.latencyP50)],
    ['added p99 us', (row) => added(row.latencyP99, direct?.latencyP99)],
  ];
  if (results.instructions)
    columns.push(
      [`kinstr/${cell.unit}`, (row) => digits(row.kiloInstructions)],
      ['x nginx', (row) => ratio(row.kiloInstructions, nginx?.kiloInstructions)],
    );
  if (cell.stream)
    columns.push(
      ['added first token p50 us', (row) => added(row.firstTokenP50, direct?.firstTokenP50)],
      ['token delay p50 us', (row) => digits(row.tokenDelayP50)],
      ['p99', (row) => digits(row.tokenDelayP99)],
    );
  const body = Object.entries(rows).map(([name, row]) =>
    row.failed ? [name, `failed: ${row.failed}`] : [name, ...columns.map(([, toText]) => toText(row))],
  );
  return table(['gateway', ...columns.map(([title]) => title)], body);
}

/** A Markdown table, its columns aligned for reading in a terminal. */
export function table(head, rows) {
  const widths = head.map((title, i) => {
    const texts = rows.filter((row) => i === 0 || row.length === head.length).map((row) => row[i].length);
    return Math.max(title.length, 3, ...texts);
  });
  const line = (row) => `| ${head.map((_, i) => (row[i] ?? '').padEnd(widths[i])).join(' | ')} |`;
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join('\n');
}

export function digits(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return dash;
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en');
  return value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
}

function ratio(value, to) {
  return value && to ? digits(value / to) : dash;
}

function added(value, to) {
  return value === null || to === null || to === undefined ? dash : digits(value - to);
}

if (import.meta.main) console.log(toTables(JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))));
