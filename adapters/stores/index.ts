// Configuration → where jobs, documents and bytes are kept. A new store is one folder and one line here.
import { join } from 'node:path';
import type { Config } from '../../src/config.ts';
import type { Log } from '../../src/http/context.ts';
import type { BlobStore, Failpoint, Store } from '../../src/store.ts';

export interface StoreOptions {
  config: Config;
  stateDir: string;
  now: () => number;
  log: Log;
  failpoint?: Failpoint | undefined;
}

/** Each driver is loaded where it is used: the other one's libraries cost a start nothing. */
export async function openStore({ config, stateDir, now, log }: StoreOptions): Promise<Store> {
  if (config.redis_url === undefined) {
    const { openSqliteStore } = await import('./sqlite/index.ts');
    return openSqliteStore({ path: join(stateDir, 'hono-ai.db'), now });
  }
  const { openRedisStore } = await import('./redis/index.ts');
  return openRedisStore({ url: config.redis_url, journalPath: join(stateDir, 'journal.db'), now, log });
}

export async function openBlobs({ config, stateDir, failpoint }: StoreOptions): Promise<BlobStore> {
  const { s3_url: url, s3_access_key: accessKey, s3_secret_key: secretKey, s3_region: region } = config;
  if (url === undefined || accessKey === undefined || secretKey === undefined) {
    const { openFileBlobs } = await import('./files/index.ts');
    return openFileBlobs({ dir: join(stateDir, 'artifacts'), ...(failpoint ? { failpoint } : {}) });
  }
  const { openS3Blobs } = await import('./s3/index.ts');
  return openS3Blobs({ url, accessKey, secretKey, region, spool: join(stateDir, 'spool') });
}
