// The store suite on Deno.
import { testStoreOn } from '../support/store-cases-host.ts';

testStoreOn('deno', 'sqlite');
