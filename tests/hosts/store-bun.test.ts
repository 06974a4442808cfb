// The store suite on Bun.
import { testStoreOn } from '../support/store-cases-host.ts';

testStoreOn('bun', 'sqlite');
