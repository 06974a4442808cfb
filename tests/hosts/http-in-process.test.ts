// The contract over HTTP, in process: no socket, the same app.
import { testHttp } from '../conformance/http.ts';
import { openInProcess } from '../support/gateway.ts';

testHttp('in process', openInProcess);
