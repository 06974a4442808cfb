// The contract over HTTP, served by Deno.
import { testHttp } from '../conformance/http.ts';
import { openServed } from '../support/gateway.ts';

testHttp('deno', (options) => openServed('deno', options));
