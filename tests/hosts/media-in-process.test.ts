// Pictures, films and music, in process: no socket, the same app.
import { testMedia } from '../conformance/media.ts';
import { openInProcess } from '../support/gateway.ts';

testMedia('in process', openInProcess);
