// The last look after all kills: every promise against what the gateway says, what the runtime counted, and what lies on disk.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { BatchView } from '../../src/jobs/batches.ts';
import type { ArtifactView } from '../../src/capabilities/file.ts';
import type { JobView } from '../../src/jobs/view.ts';
import { toBytes, type CountingRuntime, type Plan } from './counting-runtime.ts';
import { isTerminal, type Known, type Ledger } from './kill-ledger.ts';
import { each, names, readPages, type Stage } from './kill-settle.ts';

/** What was found, for people. */
export interface Findings {
  jobs: Record<string, number>;
  executions: number;
  again: number;
  deliveries: number;
  redeliveries: number;
  waiting: number;
  artifacts: number;
  orphans: number;
  temps: number;
}

/** Four jobs run at the same time: while one is written down, so many others do not begin and come to their ends, however slow the machine. */
const OVERTAKING = 8;
/** A request that is on its way when the cancel is answered may still arrive. */
const ON_THE_WAY_MS = 250;

/** Every job of every caller, as it is asked for one by one. */
export async function readAll({ ask, ledger }: Pick<Stage, 'ask' | 'ledger'>): Promise<Map<string, JobView>> {
  const views = new Map<string, JobView>();
  for (const caller of names) {
    const begunAt = performance.now();
    const listed = await readPages<JobView>(ask, caller, '/jobs?limit=100');
    for (const view of listed) ledger.observe(caller, view, begunAt);
    await each(listed, async ({ id }) => {
      const askedAt = performance.now();
      const { status, json } = await ask(caller, `/jobs/${id}`);
      if (status !== 200) return ledger.blame(`${id} is listed, but a look at it was answered ${status}`);
      if (views.has(id)) ledger.blame(`${id} is listed twice`);
      views.set(id, json as JobView);
      ledger.observe(caller, json as JobView, askedAt);
    });
  }
  for (const { id, caller } of ledger.known.values()) {
    if (!views.has(id)) ledger.blame(`${id} of ${caller} was accepted and is lost`);
  }
  return views;
}

export async function check(stage: Stage, stateDir: string): Promise<Findings> {
  const { ledger, runtime, receiver } = stage;
  const views = await readAll(stage);
  const own = [...views.values()];
  for (const view of own) checkJob(stage, view);
  checkKeys(stage, own);
  const deliveries = receiver.deliveries.filter(({ about }) => views.has(about) || ledger.batches.has(about));
  checkWebhooks(stage, own);
  for (const [id, batch] of ledger.batches) await checkBatch(stage, id, batch);
  const hashes = await checkArtifacts(stage, own);
  const executions = runtime.executions.filter(({ job }) => views.has(job));
  return {
    jobs: Object.fromEntries(Object.entries(Object.groupBy(own, toLabel)).map(([label, all]) => [label, all!.length])),
    executions: executions.length,
    again: executions.length - new Set(executions.map(({ job }) => job)).size,
    deliveries: deliveries.length,
    redeliveries: deliveries.length - new Set(deliveries.map(({ id }) => id)).size,
    waiting: 0,
    artifacts: own.reduce((sum, { artifacts }) => sum + artifacts.length, 0),
    ...checkDisk(ledger, stateDir, hashes),
  };
}

function checkJob({ ledger, runtime }: Stage, view: JobView): void {
  const { id, state, attempts, max_attempts: most, error, timings } = view;
  const { blame } = ledger;
  const known = ledger.known.get(id)!;
  const executions = runtime.of(id);
  if (!isTerminal(view)) return blame(`${id} has no end: ${state}`);
  if (executions.length > attempts) blame(`${id} ran ${executions.length} times in ${attempts} attempts`);
  if (executions.length > most) blame(`${id} ran ${executions.length} times and may ${most} times`);
  // A claim that only writes down an end is counted too, and may be killed as any other.
  if (attempts > most && state !== 'cancelled' && error?.code !== 'poisoned')
    blame(`${id} has ${attempts} attempts of ${most}`);
  if (timings && Object.values(timings).some((ms) => typeof ms === 'number' && ms < 0))
    blame(`${id} has a time below zero`);
  for (const [index, { generation, startedAt, endedAt, outcome }] of executions.entries()) {
    if (startedAt > (known.endSeenAt ?? Infinity)) blame(`${id} ran after it had ended`);
    const next = executions[index + 1];
    if (!next) continue;
    const killedAt = ledger.endedAt.get(generation) ?? Infinity;
    if (next.generation === generation) blame(`${id} ran twice in ${generation}`);
    if (killedAt > next.startedAt) blame(`${id} ran in ${next.generation} while ${generation} lived`);
    if (outcome === 'cut') continue;
    const overtaking = runtime.executions.filter(
      (one) => one.generation === generation && one.startedAt > endedAt! && one.outcome !== 'cut',
    );
    if (overtaking.length > OVERTAKING) {
      const ms = Math.round(killedAt - endedAt!);
      blame(`${id} ran again: its end was not written down in ${ms} ms, in which ${overtaking.length} others ended`);
    }
  }
  checkEnd(
    ledger,
    view,
    executions.at(-1)?.plan ?? known.wish?.plan,
    executions.some((one) => one.outcome === 'answered'),
  );
  checkCancel(ledger, known, executions);
  checkDelay(ledger, view, known);
}

function checkEnd({ blame }: Ledger, view: JobView, plan: Plan | undefined, answered: boolean): void {
  const { id, state, error, artifacts, result, cached } = view;
  if (state === 'done') {
    // Its request was never answered, and it never ran: nobody knows what it was, but the one whose answer it has.
    if (!plan && cached) return;
    if (!plan || plan.fails) return blame(`${id} is done and cannot be`);
    if (!answered && !cached) blame(`${id} is done and never ran to its end`);
    if ((result as { text?: string } | undefined)?.text !== plan.key) blame(`${id} has another's result`);
    if (artifacts.length !== plan.files.length) {
      blame(`${id} has ${artifacts.length} artifacts, not ${plan.files.length}`);
    }
    for (const [index, label] of plan.files.entries()) {
      const { name, sha256 } = artifacts[index] ?? {};
      if (name !== `${index}-${label}.txt` || sha256 !== toHash(toBytes(label))) blame(`${id} has another's files`);
    }
    return;
  }
  if (artifacts.length > 0 || result !== undefined) blame(`${id} is ${state} and has a result`);
  if (state === 'cancelled' ? error?.code !== 'cancelled' : !['upstream_error', 'poisoned'].includes(error!.code)) {
    blame(`${id} is ${state} with ${JSON.stringify(error)}`);
  }
  if (error?.code === 'upstream_error' && !plan?.fails) blame(`${id} failed and should not have`);
}

function checkCancel({ blame }: Ledger, { id, seen, cancelled }: Known, executions: Execution[]): void {
  if (seen!.state === 'cancelled' && !cancelled) return;
  if (!cancelled) return;
  if (cancelled.state === 'cancelled' && seen!.state !== 'cancelled')
    blame(`${id} was cancelled and is ${seen!.state}`);
  for (const { generation, startedAt } of executions) {
    if (startedAt <= cancelled.at) continue;
    const onTheWay = generation === cancelled.generation && startedAt - cancelled.at < ON_THE_WAY_MS;
    if (!onTheWay) blame(`${id} ran ${Math.round(startedAt - cancelled.at)} ms after its cancel was answered`);
  }
}

type Execution = CountingRuntime['executions'][number];

function checkDelay(
  { blame }: Ledger,
  { id, created_at: created, run_at: runAt, started_at: started }: JobView,
  { wish }: Known,
) {
  if (!wish || wish.delayMs === 0) return;
  if (started !== null && Date.parse(started) < Date.parse(created) + wish.delayMs) blame(`${id} started too early`);
  if (Date.parse(runAt) < Date.parse(created) + wish.delayMs) blame(`${id} lost its delay`);
}

/** One request is one job, however often it was sent. */
function checkKeys({ ledger, runtime }: Stage, views: JobView[]): void {
  const jobs = new Map<string, string>();
  const shared = new Set(ledger.wishes.filter((wish) => wish.shared).map(({ plan }) => plan.key));
  const keys = [
    ...views.map(({ id, metadata }) => ({ id, key: metadata['key'] })),
    ...views.flatMap(({ id }) => runtime.of(id).map(({ plan }) => ({ id, key: plan.key }))),
  ];
  for (const { id, key } of keys) {
    if (key === undefined || shared.has(key)) continue;
    const first = jobs.get(key);
    if (first === undefined) jobs.set(key, id);
    else if (first !== id) ledger.blame(`${key} became two jobs: ${first} and ${id}`);
  }
}

function checkWebhooks({ ledger, receiver }: Stage, views: JobView[]): void {
  const { blame } = ledger;
  const byAbout = Object.groupBy(receiver.deliveries, ({ target, about }) => `${target} ${about}`);
  for (const [what, all = []] of Object.entries(byAbout)) {
    if (new Set(all.map(({ id }) => id)).size > 1) blame(`${what} was told under several webhook ids`);
    if (new Set(all.map(({ body }) => body)).size > 1) blame(`${what} was told in several ways`);
    if (all.some(({ genuine }) => genuine === false)) blame(`${what} was told with a bad signature`);
  }
  const byId = Object.groupBy(receiver.deliveries, ({ id }) => id);
  for (const [id, all = []] of Object.entries(byId)) {
    if (new Set(all.map(({ target, about }) => `${target} ${about}`)).size > 1)
      blame(`${id} is the id of several webhooks`);
  }
  for (const view of views) {
    const target = ledger.known.get(view.id)!.wish?.target;
    if (target === undefined) continue;
    const told = byAbout[`${target} ${view.id}`] ?? [];
    if (told.length === 0) blame(`nobody was told that ${view.id} is ${view.state}`);
    for (const { type, state } of told) {
      if (type !== `job.${view.state}` || state !== view.state)
        blame(`${view.id} is ${view.state}, but ${type} was told`);
    }
  }
}

async function checkBatch({ ask, ledger, receiver }: Stage, id: string, batch: BatchWish): Promise<void> {
  const { blame } = ledger;
  const { caller, plans, target } = batch;
  const { status, json } = await ask(caller, `/jobs/batches/${id}`);
  if (status !== 200) return blame(`${id} of ${caller} was accepted and is lost`);
  const { state, total, counts } = json as BatchView;
  const jobs = await readPages<JobView>(ask, caller, `/jobs?batch=${id}&limit=100`);
  const places = jobs.map(({ index }) => index).toSorted((a, b) => a! - b!);
  if (JSON.stringify(places) !== JSON.stringify(plans.map((_, index) => index))) {
    blame(`${id} has jobs ${places.join()} of ${plans.length}`);
  }
  for (const one of ['queued', 'running', 'done', 'failed', 'cancelled'] as const) {
    const found = jobs.filter((job) => job.state === one).length;
    if (counts[one] !== found) blame(`${id} counts ${counts[one]} as ${one}, there are ${found}`);
  }
  if (state !== 'done' || total !== plans.length) blame(`${id} is ${state} with ${total} of ${plans.length}`);
  const told = receiver.deliveries.filter((one) => one.target === target);
  if (new Set(told.map((one) => one.id)).size !== 1)
    blame(`${id} was told of ${told.length} times, under one id or none`);
}

type BatchWish = Ledger['batches'] extends Map<string, infer Wish> ? Wish : never;

/** The hashes of all that is referred to. */
async function checkArtifacts({ ask, url, ledger }: Stage, views: JobView[]): Promise<Set<string>> {
  const { blame } = ledger;
  const owners = new Map(views.flatMap((view) => view.artifacts.map(({ id }) => [id, view] as const)));
  const listed = new Map<string, ArtifactView>();
  for (const caller of names) {
    for (const view of await readPages<ArtifactView>(ask, caller, '/artifacts?limit=100')) listed.set(view.id, view);
  }
  for (const id of listed.keys()) if (!owners.has(id)) blame(`${id} belongs to no job that is done`);
  for (const id of owners.keys()) if (!listed.has(id)) blame(`${id} of a job is not listed`);
  const links = views.flatMap(({ artifacts }) => artifacts);
  await each([...new Map(links.map((link) => [link.id, link])).values()], async ({ id, url: link, sha256, size }) => {
    const response = await fetch(new URL(link, url));
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (response.status !== 200 || bytes.length !== size || toHash(bytes) !== sha256) {
      blame(`the bytes of ${id} are wrong (${response.status})`);
    }
  });
  return new Set(links.map(({ sha256 }) => sha256));
}

/** What is referred to is there and whole; what is not may lie there for an hour. */
function checkDisk(ledger: Ledger, stateDir: string, hashes: Set<string>): { orphans: number; temps: number } {
  const { blame } = ledger;
  const folder = join(stateDir, 'artifacts');
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const kept = new Set<string>();
  let temps = 0;
  for (const { name, parentPath } of files) {
    const path = join(parentPath, name);
    if (parentPath === join(folder, 'tmp')) temps++;
    else {
      if (toHash(readFileSync(path)) !== name) blame(`the file ${name} is half`);
      kept.add(name);
    }
    if (statSync(path).mtimeMs < Date.now() - 3_600_000) blame(`the file ${name} is old`);
  }
  for (const hash of hashes) if (!kept.has(hash)) blame(`the file ${hash} is referred to and gone`);
  for (const name of readdirSync(stateDir).filter((one) => one.endsWith('.db'))) {
    const db = new DatabaseSync(join(stateDir, name), { readOnly: true });
    const sound = db.prepare('PRAGMA integrity_check').get() as { integrity_check: string };
    if (sound.integrity_check !== 'ok') blame(`${name} is damaged: ${sound.integrity_check}`);
    db.close();
  }
  return { orphans: [...kept].filter((hash) => !hashes.has(hash)).length, temps };
}

const toLabel = ({ state, error }: JobView) => (state === 'failed' ? `failed: ${error?.code}` : state);
const toHash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
