// Pulls over HTTP, served by Deno.
import { testPulls } from '../conformance/pulls.ts';
import { openServed } from '../support/gateway.ts';

testPulls('deno', (options) => openServed('deno', options));
