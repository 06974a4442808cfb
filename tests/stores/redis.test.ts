// The store suite over a real Redis.
import { it } from 'vitest';
import { testStore } from '../conformance/store.ts';
import { openRedisStoreForTests, withoutRedis } from '../support/redis.ts';

if (withoutRedis === undefined) testStore('redis', openRedisStoreForTests);
else it.skip(`the store suite over Redis: ${withoutRedis}`);
