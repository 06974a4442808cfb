// The suite that every store must pass: what the gateway relies on, checked over the real thing.
import { describe, it } from 'vitest';
import type { OpenStore } from '../support/store-cases-helpers.ts';
import { storeCases } from '../support/store-cases.ts';

export { storeCases };
export type { OpenStore, StoreCase, StoreUnderTest } from '../support/store-cases-helpers.ts';

export function testStore(name: string, open: OpenStore): void {
  describe(`store ${name}`, { timeout: 120_000 }, () => {
    it.each(storeCases)('$name', ({ run }) => run(open));
  });
}
