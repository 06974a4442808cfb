// A gateway is killed in the middle of a pull: after the restart the same job goes on where it was, and ends done.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openServed, post } from '../support/gateway.ts';
import { openLibrary, SIZE, type Library } from '../support/open-library.ts';

interface Job {
  id: string;
  state: string;
  attempts: number;
  progress: { percent: number } | null;
  result?: { already: boolean };
}

let library: Library;
beforeAll(async () => {
  library = await openLibrary();
});
afterAll(() => library?.close());

async function until<T>(look: () => Promise<T>, enough: (seen: T) => boolean): Promise<T> {
  const end = performance.now() + 20_000;
  for (;;) {
    const seen = await look();
    if (enough(seen)) return seen;
    if (performance.now() > end) throw new Error(`not in time: ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

it.each(['node', 'bun', 'deno'] as const)('on %s', { timeout: 60_000 }, async (engine) => {
  const state = mkdtempSync(join(tmpdir(), 'hono-ai-pull-kill-'));
  const env = { ...library.options.env, HONO_AI_STATE_DIR: state };
  const { model, digest } = library.publish();
  library.slowly();
  const first = await openServed(engine, { ...library.options, env });
  const submitted = await first.request('/models/pull', post({ model }));
  const { id } = (await submitted.json()) as Job;
  await until(
    async () => library.come(digest),
    (bytes) => bytes > SIZE * 0.6,
  );
  await first.kill!();
  const come = library.come(digest);
  library.hurry();
  const second = await openServed(engine, { ...library.options, env });
  try {
    const done = await until(
      async () => (await (await second.request(`/jobs/${id}`)).json()) as Job,
      (job) => job.state === 'done' || job.state === 'failed',
    );
    expect(done).toMatchObject({ state: 'done', attempts: 2 });
    expect(library.ollama.library.models.has(model)).toBe(true);
    // What had come was not fetched again.
    expect(come).toBeGreaterThan(SIZE * 0.6);
    expect(library.downloads(digest)).toBe(2);
  } finally {
    await second.close();
    rmSync(state, { recursive: true, force: true });
  }
});
