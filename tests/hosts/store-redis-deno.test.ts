// The store suite over a real Redis, on Deno.
import { it } from 'vitest';
import { withoutRedis } from '../support/redis.ts';
import { testStoreOn } from '../support/store-cases-host.ts';

if (withoutRedis === undefined) testStoreOn('deno', 'redis');
else it.skip(`the store suite over Redis: ${withoutRedis}`);
