// The store suite over a real Redis, on Bun.
import { it } from 'vitest';
import { withoutRedis } from '../support/redis.ts';
import { testStoreOn } from '../support/store-cases-host.ts';

if (withoutRedis === undefined) testStoreOn('bun', 'redis');
else it.skip(`the store suite over Redis: ${withoutRedis}`);
