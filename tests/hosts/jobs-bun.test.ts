// The contract over HTTP, served by Bun.
import { testJobs } from '../conformance/jobs.ts';
import { openServed } from '../support/gateway.ts';

testJobs('bun', (options) => openServed('bun', options));
