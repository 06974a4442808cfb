// The contract over HTTP, served by Deno.
import { testJobs } from '../conformance/jobs.ts';
import { openServed } from '../support/gateway.ts';

testJobs('deno', (options) => openServed('deno', options));
