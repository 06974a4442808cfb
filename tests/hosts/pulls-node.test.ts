// Pulls over HTTP, served by Node.
import { testPulls } from '../conformance/pulls.ts';
import { openServed } from '../support/gateway.ts';

testPulls('node', (options) => openServed('node', options));
