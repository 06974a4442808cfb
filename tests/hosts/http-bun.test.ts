// The contract over HTTP, served by Bun.
import { testHttp } from '../conformance/http.ts';
import { openServed } from '../support/gateway.ts';

testHttp('bun', (options) => openServed('bun', options));
