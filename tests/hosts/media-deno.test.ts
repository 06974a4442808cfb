// Pictures, films and music over HTTP, served by Deno.
import { testMedia } from '../conformance/media.ts';
import { openServed } from '../support/gateway.ts';

testMedia('deno', (options) => openServed('deno', options));
