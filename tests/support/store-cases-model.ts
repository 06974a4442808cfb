// Random operations on a store and on a model of it in memory, which must agree about every job at every step.
import assert from 'node:assert/strict';
import type { Document, Held, JobState, NewJob, Priority, Put, Store } from '../../src/store.ts';
import {
  classes,
  createRandom,
  HOUR,
  toCase,
  toJob,
  type StoreCase,
  type StoreUnderTest,
} from './store-cases-helpers.ts';

/** The order of steps is the seed's on every host: those that only host the same code run fewer. */
const OPERATIONS = Number(process.env['HONO_AI_STORE_OPERATIONS'] ?? 1500);
const SEEDS = [1, 165];

export const modelCases: readonly StoreCase[] = SEEDS.map((seed) =>
  toCase(`agrees with a model of it over thousands of random operations, seed ${seed}`, (_, subject) =>
    explore(seed, subject),
  ),
);

/** What the model knows of a job. */
interface Known {
  job: NewJob;
  state: JobState;
  runAt: number;
  attempts: number;
  fence: number;
  marked: boolean;
  result?: unknown;
  finishedAt?: number;
  /** It has waited in one go since it came: such jobs of a caller start in the order in which they came. */
  plain: boolean;
}

interface World {
  store: Store;
  random: ReturnType<typeof createRandom>;
  /** By id, the oldest first. */
  known: Map<string, Known>;
  documents: Map<string, { value: unknown; version: number }>;
  /** Everything that was ever claimed: current holders and former ones. */
  holds: Held[];
  now: number;
  count: number;
}

async function explore(seed: number, subject: StoreUnderTest): Promise<void> {
  const world: World = {
    store: await subject.open(),
    random: createRandom(seed),
    known: new Map(),
    documents: new Map(),
    holds: [],
    now: Date.now(),
    count: 0,
  };
  const trail: string[] = [];
  for (let n = 0; n < OPERATIONS; n++) {
    const step = toStep(world);
    trail.push(step.name);
    try {
      await step(world);
      if (n % 100 === 99) await compare(world);
      if (n % 500 === 499) {
        // The store dies and comes back.
        await world.store.close();
        world.store = await subject.open();
      }
    } catch (error) {
      const last = trail.slice(-20).join(', ');
      throw new Error(`seed ${seed}, operation ${n + 1}, after ${last}: ${(error as Error).message}`, { cause: error });
    }
  }
  await compare(world);
}

const steps: [weight: number, step: (world: World) => Promise<void>][] = [
  [22, add],
  [22, claim],
  [16, finish],
  [8, requeue],
  [8, stop],
  [4, revive],
  [4, remove],
  [3, beat],
  [1, sweep],
  [10, putDocument],
  [4, wait],
];
const total = steps.reduce((sum, [weight]) => sum + weight, 0);

function toStep({ random }: World): (world: World) => Promise<void> {
  let at = random.below(total);
  for (const [weight, step] of steps) if ((at -= weight) < 0) return step;
  return wait;
}

async function wait(world: World): Promise<void> {
  world.now += world.random.below(HOUR / 2);
}

async function add(world: World): Promise<void> {
  const { random, store, known, now } = world;
  const jobs = Array.from({ length: 1 + random.below(3) }, () => {
    const delayed = random.next() < 0.2;
    return toJob({
      id: `job_${world.count++}`,
      owner: random.pick(['anna', 'ben', 'cleo']),
      priority: random.pick<Priority>(classes),
      capability: random.pick(['text.chat', 'text.generate']),
      createdAt: now,
      runAt: now + (delayed ? random.below(2 * HOUR) + 1 : 0),
      input: { n: world.count },
      ...(random.next() < 0.3 ? { batch: `batch_${random.below(3)}`, index: world.count } : {}),
    });
  });
  await store.jobs.add(jobs);
  for (const job of jobs) {
    const plain = job.runAt === now;
    known.set(job.id, { job, state: 'queued', runAt: job.runAt, attempts: 0, fence: 0, marked: false, plain });
  }
}

async function claim(world: World): Promise<void> {
  const { store, known, now, holds } = world;
  const ready = [...known.values()].filter(({ state, runAt }) => state === 'queued' && runAt <= now);
  // What was to start when the clock of the store itself has come there is also due by the clock of the model.
  const job = await store.jobs.claim('w1', now);
  if (!job) return assert.equal(ready.length, 0, 'nothing was claimed where jobs wait');
  const mine = known.get(job.id)!;
  assert.ok(ready.includes(mine), `${job.id} was claimed, which is ${mine.state}`);
  const rank = ({ job: { priority } }: Known) => classes.indexOf(priority);
  assert.equal(rank(mine), Math.min(...ready.map(rank)), 'a job of a later class was claimed');
  const before = ready.find(
    (other) => other.plain && other.job.owner === job.owner && other.job.priority === job.priority,
  );
  if (mine.plain) assert.equal(job.id, before!.job.id, 'a job was claimed before an older one of its caller');
  Object.assign(mine, { state: 'running', attempts: mine.attempts + 1, plain: false });
  assert.ok(job.fence > mine.fence, 'the fence has not grown');
  mine.fence = job.fence;
  holds.push({ id: job.id, fence: job.fence });
  assert.equal(job.attempts, mine.attempts);
}

/** A holder, current or former, and what the model knows of its job where it holds it still. */
function toHolder({ random, holds, known }: World): { held: Held; mine?: Known } | undefined {
  if (holds.length === 0) return undefined;
  // The later ones are more often still running.
  const held = random.next() < 0.7 ? random.pick(holds.slice(-8)) : random.pick(holds);
  const mine = known.get(held.id);
  return mine?.state === 'running' && mine.fence === held.fence ? { held, mine } : { held };
}

async function finish(world: World): Promise<void> {
  const { store, random, now } = world;
  const holder = toHolder(world);
  if (!holder) return;
  const state = random.pick(['done', 'done', 'failed', 'cancelled'] as const);
  const result = { n: random.below(1000) };
  const id = `end_${holder.held.id}`;
  const answer = await store.jobs.finish(holder.held, { state, at: now, ...(state === 'done' ? { result } : {}) }, [
    { kind: 'thing', id, owner: 'anna', value: result },
  ]);
  assert.equal(answer, holder.mine !== undefined, `finish of ${holder.held.id}`);
  if (!holder.mine) return;
  Object.assign(holder.mine, { state, finishedAt: now, marked: false, ...(state === 'done' ? { result } : {}) });
  await learn(world, id);
  assert.deepEqual(world.documents.get(id)!.value, result);
}

async function requeue(world: World): Promise<void> {
  const { store, random, now } = world;
  const holder = toHolder(world);
  if (!holder) return;
  const refund = random.next() < 0.3;
  const runAt = now + (random.next() < 0.5 ? 0 : random.below(HOUR) + 1);
  const answer = await store.jobs.requeue(holder.held, { runAt, refund });
  assert.equal(answer, holder.mine !== undefined, `requeue of ${holder.held.id}`);
  const { mine } = holder;
  if (mine) Object.assign(mine, { state: 'queued', runAt, attempts: mine.attempts - (refund ? 1 : 0) });
}

const pickKnown = ({ random, known }: World) => (known.size === 0 ? undefined : random.pick([...known.values()]));

async function stop(world: World): Promise<void> {
  const mine = pickKnown(world);
  if (!mine) return;
  const answer = await world.store.jobs.stop(mine.job.id, { state: 'cancelled', at: world.now });
  assert.equal(answer, mine.state === 'queued' ? 'stopped' : mine.state === 'running' ? 'marked' : 'ended');
  if (answer === 'stopped') Object.assign(mine, { state: 'cancelled', finishedAt: world.now });
  if (answer === 'marked') mine.marked = true;
}

async function revive(world: World): Promise<void> {
  const mine = pickKnown(world);
  if (!mine) return;
  const answer = await world.store.jobs.revive(mine.job.id, world.now);
  assert.equal(answer, mine.state === 'failed' || mine.state === 'cancelled');
  if (answer) Object.assign(mine, { state: 'queued', runAt: world.now, attempts: 0, marked: false, plain: false });
}

async function remove(world: World): Promise<void> {
  const mine = pickKnown(world);
  if (!mine) return;
  const answer = await world.store.jobs.remove(mine.job.id);
  assert.equal(answer, isEnded(mine));
  if (answer) world.known.delete(mine.job.id);
}

async function sweep(world: World): Promise<void> {
  const before = world.now - HOUR;
  const old = [...world.known.values()].filter((mine) => isEnded(mine) && mine.finishedAt! < before);
  const gone = await world.store.jobs.sweep(before, 10);
  assert.equal(gone.length, Math.min(10, old.length));
  for (const id of gone) assert.ok(old.some(({ job }) => job.id === id) && world.known.delete(id), `${id} was swept`);
}

async function beat(world: World): Promise<void> {
  const held = world.holds.slice(-20);
  const answer = await world.store.jobs.beat(held);
  const state = ({ id, fence }: Held) => {
    const mine = world.known.get(id);
    return mine?.state !== 'running' || mine.fence !== fence ? 'lost' : mine.marked ? 'cancelled' : 'kept';
  };
  for (const kind of ['lost', 'cancelled'] as const) {
    const expected = held.filter((hold) => state(hold) === kind).map(({ id }) => id);
    assert.deepEqual(answer[kind].toSorted(), expected.toSorted(), kind);
  }
}

async function putDocument(world: World): Promise<void> {
  const { store, random, documents } = world;
  const id = `d${random.below(12)}`;
  const there = documents.get(id);
  const condition = random.pick(['absent', 'seen', 'stale', undefined]);
  const expected = condition === 'absent' ? 'absent' : condition === 'seen' ? there?.version : condition && -1;
  const test = expected === undefined ? {} : { if: expected };
  const gone = random.next() < 0.3;
  const value = random.below(1000);
  const put = gone
    ? { kind: 'thing', id, delete: true, ...(expected === 'absent' ? {} : test) }
    : { kind: 'thing', id, owner: 'anna', value, ...test };
  const holds = !('if' in put) || (put.if === 'absent' ? !there : put.if === there?.version);
  const answer = await store.documents.put([put as Put]);
  assert.equal(answer === undefined, holds, `put of ${id} ${JSON.stringify(test)}`);
  if (answer) {
    const found = answer.conflict === 'missing' ? undefined : (answer.conflict as Document);
    assert.deepEqual(found?.value, there?.value);
  } else if (gone) documents.delete(id);
  else await learn(world, id, value);
}

async function learn({ store, documents }: World, id: string, value?: unknown): Promise<void> {
  const kept = (await store.documents.get('thing', id))!;
  assert.ok(kept, `${id} was not kept`);
  if (value !== undefined) assert.deepEqual(kept.value, value);
  assert.ok(kept.version > (documents.get(id)?.version ?? -1), 'the version has not grown');
  documents.set(id, { value: kept.value, version: kept.version });
}

/** Everything that can be asked, against everything that is known. */
async function compare({ store: { jobs }, known, now }: World): Promise<void> {
  const all = [...known.values()];
  for (const owner of ['anna', 'ben', 'cleo']) {
    const mine = all.filter(({ job }) => job.owner === owner);
    const listed: { id: string; state: JobState }[] = [];
    for (let cursor: string | undefined; ;) {
      const page = await jobs.list({ owner, limit: 17, ...(cursor === undefined ? {} : { cursor }) });
      listed.push(...page.jobs.map(({ id, state }) => ({ id, state })));
      if ((cursor = page.next) === undefined) break;
    }
    assert.deepEqual(
      listed.toReversed(),
      mine.map(({ job: { id }, state }) => ({ id, state })),
      `the list of ${owner}`,
    );
    assert.equal(await jobs.waiting(owner), mine.filter(({ state }) => state === 'queued').length);
  }
  assert.deepEqual(await jobs.counts(), toCounts(all));
  for (const batch of ['batch_0', 'batch_1', 'batch_2']) {
    const counts = toCounts(all.filter(({ job }) => job.batch === batch));
    assert.deepEqual(await jobs.batchCounts(batch), counts);
    assert.equal(await jobs.batchPending(batch), counts.queued + counts.running > 0);
  }
  const running = (await jobs.running()).map(({ id }) => id);
  assert.deepEqual(
    running.toSorted(),
    all
      .filter(({ state }) => state === 'running')
      .map(({ job }) => job.id)
      .toSorted(),
  );
  for (const mine of all.slice(-40)) {
    const kept = (await jobs.get(mine.job.id))!;
    const { state, attempts, fence, runAt } = kept;
    assert.deepEqual(
      { state, attempts, fence, runAt, result: kept.result, input: kept.input, marked: kept.cancelled === true },
      {
        state: mine.state,
        attempts: mine.attempts,
        fence: mine.fence,
        runAt: mine.runAt,
        result: mine.state === 'done' ? mine.result : undefined,
        input: mine.job.input,
        marked: mine.marked,
      },
    );
    const position = await jobs.position(mine.job.id, 10_000);
    assert.equal(position !== undefined, state === 'queued');
    if (position !== undefined) assert.ok(position >= 1 && position <= toCounts(all).queued);
  }
  assert.equal((await jobs.nextAt()) === undefined, toCounts(all).queued === 0);
  assert.ok(now > 0);
}

const isEnded = ({ state }: Known) => state !== 'queued' && state !== 'running';

function toCounts(all: readonly Known[]): Record<JobState, number> {
  const counts = { queued: 0, running: 0, done: 0, failed: 0, cancelled: 0 };
  for (const { state } of all) counts[state]++;
  return counts;
}
