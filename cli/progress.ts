// How far jobs are, on standard error: one line that is rewritten on a terminal, a line now and then elsewhere.
import type { JobView } from '../src/jobs/view.ts';
import type { Invocation } from './command.ts';
import { toJobId, type JobEvent } from './follow.ts';
import { toSize } from './sizes.ts';

export interface ProgressLine {
  onEvent(event: JobEvent): void;
  /** How far a batch is, in words. */
  onCounts(batch: string, text: string): void;
  end(): void;
}

interface Standing {
  state: string;
  percent: number;
  done?: number;
  total?: number;
  unit?: string;
  message?: string;
  position?: number | undefined;
  eta?: number | undefined;
  rate?: number;
  label?: string;
}

const REDRAW_MS = 100;
/** As the gateway counts. */
const MAX_POSITION = 10_000;
const BAR_CELLS = 20;
/** Where sizes and speed follow, which shall not be cut off at 80 columns. */
const SHORT_BAR_CELLS = 10;

/** `ids` are the jobs that are followed; several are summed up. A log names them, unless `unnamed`. */
export function createProgressLine({ io, out }: Invocation, ids: string[], unnamed = false): ProgressLine {
  const jobs = new Map<string, Standing>(ids.map((id) => [id, { state: 'queued', percent: 0 }]));
  const batches = new Map<string, string>();
  const told = new Map<string, string>();
  let drawnAt = -Infinity;
  let timer: NodeJS.Timeout | undefined;

  function draw(): void {
    const [only] = jobs.values();
    const own = jobs.size > 1 ? toSummary([...jobs.values()]) : only ? `${toBar(only)}${toText(only)}` : '';
    out.status([own, ...batches.values()].filter(Boolean).join('; '));
  }

  /** At most ten times a second, and always the last. */
  function redraw(): void {
    if (timer) return;
    const left = drawnAt + REDRAW_MS - performance.now();
    if (left > 0) {
      timer = setTimeout(redrawNow, left);
      timer.unref();
    } else redrawNow();
  }

  function redrawNow(): void {
    timer = undefined;
    drawnAt = performance.now();
    draw();
  }

  /** In a log a line must be worth its place: a change of state, or another tenth. */
  function log(id: string, job: Standing): void {
    const mark = job.state === 'running' ? `${job.state} ${Math.floor(job.percent / 10)}` : job.state;
    if (told.get(id) === mark) return;
    told.set(id, mark);
    const text = toText(job);
    if (!unnamed) out.note(`${id}: ${text}`);
    else if (text !== 'running') out.note(text);
  }

  return {
    onEvent(event) {
      const id = toJobId(event);
      const job = id === undefined ? undefined : jobs.get(id);
      if (id === undefined || !job) return;
      update(job, event);
      if (!io.stderr.isTTY) return log(id, job);
      redraw();
    },
    onCounts(batch, text) {
      if (batches.get(batch) === text) return;
      batches.set(batch, text);
      if (io.stderr.isTTY) redraw();
      else out.note(`${batch}: ${text}`);
    },
    end() {
      clearTimeout(timer);
      timer = undefined;
      out.clearStatus();
    },
  };
}

/** `running: 30 %, 12 of 40 steps, about 12 s left`, `queued 3rd, ~2 min`. */
function toText({ state, percent, done, total, unit, message, position, eta, rate, label }: Standing): string {
  if (state === 'queued') return toQueued(position, eta);
  const running = state === 'running';
  const bytes = unit === 'bytes';
  const amount = (value: number) => (bytes ? toSize(value) : String(value));
  const count =
    done === undefined
      ? ''
      : `${amount(done)}${total === undefined ? '' : ` of ${amount(total)}`}${unit && !bytes ? ` ${unit}` : ''}`;
  const details = [
    running && percent > 0 ? `${Math.floor(percent)} %` : '',
    running ? count : '',
    running && bytes && rate ? `${toSize(Math.round(rate))}/s` : '',
    running ? (label ?? '') : '',
    running ? (message ?? '') : '',
    !eta || !running ? '' : `about ${toSpan(eta)} left`,
  ].filter((detail) => detail !== '' && detail !== state);
  return details.length > 0 ? `${state}: ${details.join(', ')}` : state;
}

/** `queued 3rd, ~2 min`: its place, and when it will be done, as far as either is known. */
export function toQueued(position?: number, eta?: number): string {
  return ['queued', position === undefined ? '' : ` ${toOrdinal(position)}`, eta ? `, ~${toSpan(eta)}` : ''].join('');
}

/** `1st`, `22nd`, `113th`; of those so far back that nobody counts: `after 10000 others`. */
export function toOrdinal(position: number): string {
  if (position > MAX_POSITION) return `after ${MAX_POSITION} others`;
  const teen = Math.floor(position / 10) % 10 === 1;
  return `${position}${(teen ? undefined : ['th', 'st', 'nd', 'rd'][position % 10]) ?? 'th'}`;
}

function toBar({ state, percent, unit }: Standing): string {
  if (state !== 'running' || percent === 0) return '';
  const cells = unit === 'bytes' ? SHORT_BAR_CELLS : BAR_CELLS;
  const filled = Math.round((percent / 100) * cells);
  return `${'█'.repeat(filled)}${'░'.repeat(cells - filled)} `;
}

function toSummary(jobs: Standing[]): string {
  const count = (state: string) => jobs.filter((job) => job.state === state).length;
  const running = jobs.filter(({ state }) => state === 'running');
  const shares = jobs.map(({ state, percent }) => (state === 'queued' ? 0 : state === 'running' ? percent : 100));
  const percent = shares.reduce((sum, share) => sum + share, 0) / jobs.length;
  const counts = ['done', 'failed', 'cancelled', 'running', 'queued'].flatMap((state) =>
    count(state) > 0 ? [`${count(state)} ${state}`] : [],
  );
  const eta = Math.max(...running.map(({ eta = -1 }) => eta), -1);
  const left = eta < 0 ? '' : `; those that run: about ${toSpan(eta)} left`;
  return `${toBar({ state: 'running', percent })}${counts.join(', ')} of ${jobs.length}${left}`;
}

function update(job: Standing, { type, data }: JobEvent): void {
  if (type === 'job:progress') {
    const { percent, done, total, unit, message, eta_s, rate, label } = data as Partial<Record<string, unknown>>;
    job.state = 'running';
    if (typeof percent === 'number') job.percent = Math.min(100, Math.max(0, percent));
    set(job, 'done', done, 'number');
    set(job, 'total', total, 'number');
    set(job, 'unit', unit, 'string');
    set(job, 'message', message, 'string');
    set(job, 'eta', eta_s, 'number');
    set(job, 'rate', rate, 'number');
    set(job, 'label', label, 'string');
    return;
  }
  const view = data['job'] as JobView | undefined;
  if (!view?.state) return;
  job.state = view.state;
  job.position = view.position ?? undefined;
  job.eta = view.eta_s ?? undefined;
  if (view.state === 'queued') job.percent = 0;
  if (view.progress) update(job, { type: 'job:progress', data: { eta_s: view.eta_s, ...view.progress } });
  job.state = view.state;
}

function set(job: Standing, field: keyof Standing, value: unknown, type: 'number' | 'string'): void {
  if (typeof value === type) Object.assign(job, { [field]: value });
  else delete job[field];
}

/** `40 s`, `3 min`, `2 h 5 min`. */
export function toSpan(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 100) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
