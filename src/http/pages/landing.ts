// The page at /: what this is, how to point a program at it, and where the documents are.
import { flame, html, shell, type Markup } from './markup.ts';

export interface Landing {
  version: string;
  /** The JS engine that serves, such as `node 24.1.0`. */
  host: string;
  /** Where this gateway is, for the examples: scheme, name and port. */
  baseUrl?: string;
  runtimes?: readonly { name: string; ok: boolean }[];
  keyRequired: boolean;
}

export function landingPage({
  version,
  host,
  baseUrl = 'http://127.0.0.1:8787',
  runtimes,
  keyRequired,
}: Landing): string {
  const key = keyRequired ? 'process.env.HONO_AI_API_KEY' : "'none'";
  return shell({
    title: 'hono-ai',
    description: 'One front door for everything a home GPU can generate.',
    kind: 'landing',
    body: html`<header class="bar">
        <a class="brand" href="/">${flame}hono-ai</a>
        <nav aria-label="Documents">
          <a href="/docs">Try it</a> <a href="/redoc">Reference</a> <a href="/llms.txt">llms.txt</a>
        </nav>
      </header>
      <main>
        <section class="hero">
          <p class="running">
            <span class="dot" aria-hidden="true"></span>running <span class="quiet">· ${version} on ${host}</span>
          </p>
          <h1>One front door for everything a home GPU can generate.</h1>
          <p class="lead">
            Ollama, ComfyUI, OpenAI-compatible servers and the models that run in this gateway itself answer behind one
            API: one address, one error shape, one queue for the card.
          </p>
          <dl class="address">
            <div>
              <dt>OpenAI clients</dt>
              <dd><code class="all">${baseUrl}/v1</code></dd>
            </div>
            <div>
              <dt>Native routes</dt>
              <dd><code class="all">${baseUrl}</code></dd>
            </div>
            <div>
              <dt>API key</dt>
              <dd>
                ${keyRequired ? html`<code>Authorization: Bearer</code> your key` : 'none needed from this machine'}
              </dd>
            </div>
          </dl>
          ${
            runtimes &&
            runtimes.length > 0 &&
            html`<ul class="runtimes" aria-label="Runtimes">
              ${runtimes.map(({ name, ok }) => html`<li class="${ok ? 'up' : 'down'}"><span class="dot" aria-hidden="true"></span>${name} <span class="quiet">${ok ? 'up' : 'down'}</span></li>`)}
            </ul>`
          }
        </section>
        <section class="examples" aria-label="Examples">
          ${example('curl', curl(baseUrl, keyRequired), 'one click selects it all')}
          ${example('JavaScript', javascript(baseUrl, key))} ${example('Python', python(baseUrl, keyRequired))}
        </section>
        <section class="doors" aria-label="Documents">
          ${door('/docs', 'Try it', 'Every route as a form: fill it in, send it, see the answer.')}
          ${door('/redoc', 'Read it', 'The whole reference on one page. Works without JavaScript.')}
          ${door('/openapi.json', 'Generate from it', 'The OpenAPI 3.1 document, for clients and tools.')}
          ${door('/llms.txt', 'Hand it to a model', 'The same routes in plain text, one line each.')}
        </section>
      </main>
      <footer>
        <p>hono-ai ${version} · <a href="/health">health</a> · <a href="/ready">ready</a></p>
      </footer>`,
  });
}

function example(title: string, code: string, note?: string): Markup {
  return html`<figure>
    <figcaption>${title}${note && html`<span class="quiet">${note}</span>`}</figcaption>
    <pre tabindex="0"><code class="all">${code}</code></pre>
  </figure>`;
}

function door(href: string, title: string, about: string): Markup {
  return html`<a class="door" href="${href}"><b>${title}</b><code>${href}</code><span>${about}</span></a>`;
}

function curl(baseUrl: string, keyRequired: boolean): string {
  return [
    `curl ${baseUrl}/text/gen`,
    ...(keyRequired ? ['-H "Authorization: Bearer $HONO_AI_API_KEY"'] : []),
    `-H 'Content-Type: application/json'`,
    `-d '{"prompt": "Write a haiku about a small GPU."}'`,
  ].join(' \\\n  ');
}

function javascript(baseUrl: string, key: string): string {
  return `import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: '${baseUrl}/v1',
  apiKey: ${key},
});
const stream = await client.chat.completions.create({
  model: 'default',
  messages: [{ role: 'user', content: 'Hello!' }],
  stream: true,
});
for await (const chunk of stream) {
  const text = chunk.choices[0]?.delta.content;
  if (text) process.stdout.write(text);
}`;
}

function python(baseUrl: string, keyRequired: boolean): string {
  const key = keyRequired ? 'os.environ["HONO_AI_API_KEY"]' : '"none"';
  return `${keyRequired ? 'import os\n' : ''}from openai import OpenAI

client = OpenAI(
    base_url="${baseUrl}/v1",
    api_key=${key},
)
reply = client.chat.completions.create(
    model="default",
    messages=[{"role": "user", "content": "Hello!"}],
)
print(reply.choices[0].message.content)`;
}
