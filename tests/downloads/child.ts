// Downloads on whatever engine runs this: each event is a line of JSON, and so is the end.
import { createDownloads, type DownloadsOptions, type Wanted } from '../../adapters/downloads/index.ts';

const { options, files } = JSON.parse(process.argv[2]!) as { options: Partial<DownloadsOptions>; files: Wanted[] };
const base = { tokens: {}, trusted: [], allow: [], stallMs: 400, tries: 3, backoffMs: 10 };
const downloads = createDownloads({ ...base, ...options });

const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);
for (const file of files) {
  try {
    const events = downloads.fetch([file], { signal: new AbortController().signal, source: 'child' });
    for (;;) {
      const { done, value } = await events.next();
      if (done) {
        say({ type: 'done', files: value });
        break;
      }
      say(value);
    }
  } catch (error) {
    const { code, message, hint } = error as { code?: string; message?: string; hint?: string };
    say({ type: 'failed', code, message, hint });
  }
}
// Nothing is closed: no timer and no connection may keep the program alive.
