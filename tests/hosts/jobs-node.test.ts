// The contract over HTTP, served by Node.
import { testJobs } from '../conformance/jobs.ts';
import { openServed } from '../support/gateway.ts';

testJobs('node', (options) => openServed('node', options));
