// Pictures, films and music over HTTP, served by Bun.
import { testMedia } from '../conformance/media.ts';
import { openServed } from '../support/gateway.ts';

testMedia('bun', (options) => openServed('bun', options));
