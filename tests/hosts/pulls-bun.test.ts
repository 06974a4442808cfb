// Pulls over HTTP, served by Bun.
import { testPulls } from '../conformance/pulls.ts';
import { openServed } from '../support/gateway.ts';

testPulls('bun', (options) => openServed('bun', options));
