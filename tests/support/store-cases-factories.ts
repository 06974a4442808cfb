// The stores that the suite runs over, by name. Drivers are loaded when they are asked for: a host may lack the other one's server.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqliteStore } from '../../adapters/stores/sqlite/index.ts';
import type { Store } from '../../src/store.ts';
import type { OpenStore } from './store-cases-helpers.ts';

export const factories = {
  async sqlite() {
    const dir = mkdtempSync(join(tmpdir(), 'store-'));
    const opened: Store[] = [];
    return {
      async open() {
        const store = await openSqliteStore({ path: join(dir, 'store.db') });
        opened.push(store);
        return store;
      },
      async close() {
        for (const store of opened) await store.close();
        rmSync(dir, { recursive: true, force: true });
      },
    };
  },
  async redis() {
    const { openRedisStoreForTests } = await import('./redis.ts');
    return openRedisStoreForTests();
  },
} satisfies Record<string, OpenStore>;

export type StoreName = keyof typeof factories;
