// Anchor of the cold start: the smallest server each host can start, which answers every request itself.
const port = Number(process.env.PORT);
const answer = JSON.stringify({ choices: [{ index: 0, message: { role: 'assistant', content: 'ok' } }] });
const headers = { 'content-type': 'application/json' };

if (globalThis.Bun) Bun.serve({ port, hostname: '127.0.0.1', fetch: () => new Response(answer, { headers }) });
else if (globalThis.Deno)
  Deno.serve({ port, hostname: '127.0.0.1', onListen() {} }, () => new Response(answer, { headers }));
else {
  // Not `import 'node:http'`: its ESM facade touches every lazy getter, which loads all of undici (twice the CPU time).
  const http = process.getBuiltinModule('node:http');
  http.createServer((request, response) => response.writeHead(200, headers).end(answer)).listen(port, '127.0.0.1');
}
