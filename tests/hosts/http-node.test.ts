// The contract over HTTP, served by Node.
import { testHttp } from '../conformance/http.ts';
import { openServed } from '../support/gateway.ts';

testHttp('node', (options) => openServed('node', options));
