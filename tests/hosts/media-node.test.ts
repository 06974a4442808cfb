// Pictures, films and music over HTTP, served by Node.
import { testMedia } from '../conformance/media.ts';
import { openServed } from '../support/gateway.ts';

testMedia('node', (options) => openServed('node', options));
