// Runs the store suite on whatever host runs this file: `run-store-cases.ts sqlite` prints one JSON line for each case.
import { factories, type StoreName } from './store-cases-factories.ts';
import { storeCases } from './store-cases.ts';

const name = process.argv[2] as StoreName;
if (!(name in factories)) throw new Error(`Name a store: ${Object.keys(factories).join(', ')}.`);

for (const { name: title, run } of storeCases) {
  const error = await run(factories[name]).then(
    () => undefined,
    (thrown: unknown) => (thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)),
  );
  console.log(JSON.stringify(error === undefined ? { name: title } : { name: title, error }));
}
// Whatever a library keeps open must not keep the process.
process.exit(0);
