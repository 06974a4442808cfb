// Sends through the guarded transport on whatever engine runs this, and prints what came of each request.
import { createGuardedSend } from '../../adapters/transports/guarded.ts';
import { Unreachable } from '../../src/webhooks/send.ts';

const { allow, names, ca, timeoutMs, urls } = JSON.parse(process.argv[2]!) as {
  allow: string[];
  names: Record<string, string[][]>;
  ca?: string;
  timeoutMs: number;
  urls: string[];
};

const asked: string[] = [];
const send = createGuardedSend({
  allow,
  ...(ca === undefined ? {} : { ca }),
  // A name may answer otherwise each time it is asked, as one of an attacker does.
  lookup: async (name) => {
    asked.push(name);
    const answers = names[name] ?? [];
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (!answer) throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' });
    return answer;
  },
});

const results = [];
for (const url of urls) {
  const headers = { 'content-type': 'application/json', 'webhook-id': 'msg_1' };
  const begun = performance.now();
  const { signal } = new AbortController();
  const result = await send({ url, headers, body: '{"größe":1}', timeoutMs, signal }).catch((error: unknown) => {
    if (!(error instanceof Unreachable)) return { unexpected: String(error) };
    return { reason: error.reason, message: error.message };
  });
  results.push({ ...result, ms: performance.now() - begun });
}
console.log(JSON.stringify({ results, asked }));
process.exit(0);
