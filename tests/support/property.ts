// Property tests: the same histories in every run, so that a failure is the change's; HONO_AI_TEST_SEED=random tries others.
import fc from 'fast-check';

const seed = process.env['HONO_AI_TEST_SEED'] ?? '1';
if (seed !== 'random') fc.configureGlobal({ seed: Number(seed) });

export default fc;
