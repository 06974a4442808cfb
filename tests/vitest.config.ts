// Tests run in separate processes, four at a time: many start servers and workers of their own.
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The tests of kills take minutes: begun last, as small files are, they would run on alone. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => moduleId.includes('/tests/kill/');
    // oxlint-disable-next-line unicorn/no-array-sort -- a sequencer's sort, not an array's
    const sorted = await super.sort(files);
    return sorted.toSorted((a, b) => Number(isLong(b)) - Number(isLong(a)));
  }
}

// Workers, gateways and command lines are started hundreds of times: what they load is compiled once.
process.env['NODE_COMPILE_CACHE'] ??= new URL('../node_modules/.cache/node', import.meta.url).pathname;

const ALL = 'tests/**/*.test.ts';
/** Small, and without anything of a process to change: they load the modules once for many files, which is most of what they cost. */
const LIGHT = [
  'tests/{arbiter,capabilities,dialects,doctor,fakes,hardware,jobs,models,shelves,weights}/**/*.test.ts',
  'tests/runtimes/!(embedded*).test.ts',
  'tests/http/!(artifacts|inputs|large-files|multipart|streams).test.ts',
  'tests/!(quality|surfaces).test.ts',
];

export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    projects: [
      { extends: true, test: { name: 'apart', include: [ALL], exclude: LIGHT } },
      { extends: true, test: { name: 'together', include: LIGHT, isolate: false } },
    ],
    pool: 'forks',
    maxWorkers: 4,
    sequence: { sequencer: LongestFirst },
    // What hangs is to end; how long something takes is not judged here, for a machine may be slow.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 20_000 } },
    teardownTimeout: 10_000,
  },
});
