// The contract over HTTP, in process: no socket, the same app.
import { testJobs } from '../conformance/jobs.ts';
import { openInProcess } from '../support/gateway.ts';

testJobs('in process', openInProcess);
