// Anchor: the plainest Hono gateway, fetch in and Response out, on Node, Bun and Deno; and the plainest translation of Ollama.
import { Hono } from 'hono';

const upstream = process.env.UPSTREAM;
const port = Number(process.env.PORT);
const models = new Map([['mock', {}]]);
const app = new Hono();

// What a plain gateway does with a chat: read JSON, look the model up, send it on, hand the answer back.
app.post('/v1/chat/completions', async (c) => {
  const body = await c.req.json();
  if (typeof body.model !== 'string') return c.json({ error: { message: 'model is required' } }, 400);
  models.get(body.model);
  const answer = await post(c, '/v1/chat/completions', body);
  return new Response(answer.body, { status: answer.status, headers: endToEnd(answer.headers) });
});

// The translation as most would write it: a chain of streams, JSON.parse and JSON.stringify per token.
app.post('/ollama/v1/chat/completions', async (c) => {
  const body = await c.req.json();
  const id = `chatcmpl-${crypto.randomUUID()}`;
  const { model, messages, stream = false, temperature } = body;
  const answer = await post(c, '/api/chat', { model, messages, stream, options: { temperature } });
  if (!stream) return c.json(toCompletion(id, await answer.json()));
  const events = answer.body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(splitLines())
    .pipeThrough(new TransformStream({ transform: (line, out) => out.enqueue(toEvents(id, JSON.parse(line))) }))
    .pipeThrough(new TextEncoderStream());
  return new Response(events, { headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' } });
});

if (globalThis.Bun) Bun.serve({ port, hostname: '127.0.0.1', fetch: app.fetch, idleTimeout: 0 });
else if (globalThis.Deno) Deno.serve({ port, hostname: '127.0.0.1', onListen() {} }, app.fetch);
else (await import('@hono/node-server')).serve({ fetch: app.fetch, port, hostname: '127.0.0.1' });

function post(c, path, body) {
  return fetch(upstream + path, {
    method: 'POST',
    headers: endToEnd(c.req.raw.headers),
    body: JSON.stringify(body),
    signal: c.req.raw.signal,
  });
}

function endToEnd(headers) {
  const kept = new Headers(headers);
  for (const name of ['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'host', 'content-length', 'expect'])
    kept.delete(name);
  return kept;
}

function splitLines() {
  let rest = '';
  return new TransformStream({
    transform(text, out) {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) if (line) out.enqueue(line);
    },
    flush(out) {
      if (rest) out.enqueue(rest);
    },
  });
}

function toEvents(id, part) {
  const event = (delta, finish) =>
    `data: ${JSON.stringify({
      id,
      object: 'chat.completion.chunk',
      created: Math.floor(Date.now() / 1000),
      model: part.model,
      choices: [{ index: 0, delta, finish_reason: finish }],
    })}\n\n`;
  if (part.done) return `${event({}, part.done_reason ?? 'stop')}data: [DONE]\n\n`;
  return event({ role: 'assistant', content: part.message.content }, null);
}

function toCompletion(id, whole) {
  const { prompt_eval_count: prompt, eval_count: completion } = whole;
  return {
    id,
    object: 'chat.completion',
    created: Math.floor(Date.now() / 1000),
    model: whole.model,
    choices: [{ index: 0, message: whole.message, finish_reason: whole.done_reason ?? 'stop' }],
    usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
  };
}
