// Pulls over HTTP, in process: no socket, the same app.
import { testPulls } from '../conformance/pulls.ts';
import { openInProcess } from '../support/gateway.ts';

testPulls('in process', openInProcess);
