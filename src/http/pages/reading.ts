// The reading view of the API: one page, rendered here, that needs no script.
import { toApi, type Answer, type Api, type Content, type Operation } from './api.ts';
import { flame, html, prose, shell, type Markup } from './markup.ts';
import { toAnswer, toCurl } from './sample.ts';
import { fieldView, schemaView, typeLabel } from './schema.ts';

/**
 * Any OpenAPI 3.1 document → a whole HTML page. Everything in the document is text: markup in it is shown, never run.
 * `baseUrl` is where the examples point; the document's first server if absent.
 */
export function readingPage(openApi: object, { baseUrl }: { baseUrl?: string } = {}): string {
  const api = toApi(openApi);
  const base = baseUrl ?? api.baseUrl ?? 'http://127.0.0.1:8787';
  return shell({
    title: `${api.title} API`,
    description: api.description || `Reference of the ${api.title} API`,
    kind: 'reading',
    body: html`<a class="skip" href="#content">Skip to the content</a>
      <header class="bar">
        <a class="brand" href="/">${flame}${api.title}</a><a class="button" href="#index">Index</a>
      </header>
      <header class="intro">
        <h1>${api.title} API <small>${api.version}</small></h1>
        ${prose(api.description)}
        <p class="base">Base URL <code class="all">${base}</code></p>
      </header>
      ${indexView(api)}
      <main id="content">
        ${api.groups.map(
          (group) =>
            html`<section class="group" id="${group.anchor}">
              <h2>${group.name}</h2>
              ${prose(group.description)} ${group.operations.map((operation) => operationView(api, operation, base))}
            </section>`,
        )}
      </main>`,
  });
}

function indexView(api: Api): Markup {
  return html`<nav class="index" id="index" aria-label="Operations">
    <a class="brand" href="/">${flame}${api.title} <small>${api.version}</small></a>
    ${api.groups.map(
      ({ name, anchor, operations }) =>
        html`<h2><a href="#${anchor}">${name}</a></h2>
          <ul>
            ${operations.map(indexEntry)}
          </ul>`,
    )}
    <p class="elsewhere">
      <a href="/docs">Try it</a> <a href="/openapi.json">openapi.json</a> <a href="/llms.txt">llms.txt</a>
    </p>
  </nav>`;
}

function indexEntry({ anchor, method, summary, deprecated }: Operation): Markup {
  return html`<li>
    <a href="#${anchor}">${badge(method)}<span class="${deprecated ? 'deprecated' : 'entry'}">${summary}</span></a>
  </li>`;
}

function operationView(api: Api, operation: Operation, baseUrl: string): Markup {
  const { anchor, method, path, summary, description, deprecated, keyed, body } = operation;
  const answer = toAnswer(api, operation);
  return html`<article id="${anchor}" class="operation">
    <div class="head">
      <h3><a href="#${anchor}">${summary}</a>${deprecated && html` <em class="deprecated">deprecated</em>`}</h3>
      <p class="route">
        ${badge(method)}<code>${pathView(path)}</code>${!keyed && html`<span class="note">no key needed</span>`}
      </p>
      ${prose(description)}
    </div>
    <div class="code">
      <p class="code-title">Request</p>
      <pre tabindex="0"><code class="all">${toCurl(api, operation, baseUrl)}</code></pre>
      ${answer && html`<p class="code-title">Answer</p>`}${answer && html`<pre tabindex="0"><code class="all">${answer}</code></pre>`}
    </div>
    <div class="text">
      ${parametersView(api, operation)}${body && bodyView(api, body)}${answersView(api, operation)}
    </div>
  </article>`;
}

function bodyView(api: Api, { required, description, contents }: NonNullable<Operation['body']>): Markup {
  return html`<h4>Body${!required && html` <span class="note">optional</span>`}</h4>
    ${prose(description)}${contents.map((content) => contentView(api, content, contents.length > 1))}`;
}

function answersView(api: Api, { answers }: Operation): Markup {
  if (answers.length === 0) return html``;
  return html`<h4>Answers</h4>
    ${answers.map((answer) => answerView(api, answer))}`;
}

function parametersView(api: Api, { parameters }: Operation): Markup {
  const kinds = ['path', 'query', 'header', 'cookie'].map((kind) => ({
    kind,
    found: parameters.filter((parameter) => parameter.in === kind),
  }));
  return html`${kinds
    .filter(({ found }) => found.length > 0)
    .map(
      ({ kind, found }) =>
        html`<h4>${KIND_TITLES[kind]}</h4>
          <dl class="fields">
            ${found.map(({ name, required, schema, description }) =>
              fieldView(api, description ? { ...schema, description } : schema, { name, required }),
            )}
          </dl>`,
    )}`;
}

const KIND_TITLES: Record<string, string> = { path: 'Path', query: 'Query', header: 'Headers', cookie: 'Cookies' };

function answerView(api: Api, { status, description, contents }: Answer): Markup {
  const title = html`<b class="status ${statusKind(status)}">${status}</b> ${description}`;
  const types = contents.map((content) => content.type);
  const note = types.length > 0 && html` <span class="note">${types.join(', ')}</span>`;
  const inside = contents.map((content) => contentView(api, content, contents.length > 1));
  if (contents.length === 0) return html`<p class="answer">${title}</p>`;
  return html`<details class="answer">
    <summary>${title}${note}</summary>
    ${inside}
  </details>`;
}

function contentView(api: Api, { type, schema }: Content, named: boolean): Markup {
  const inside = schemaView(api, schema);
  const plain = inside.markup === '' && html`<p class="type">${typeLabel(api, schema)}</p>`;
  return html`${named && html`<p class="media"><code>${type}</code></p>`}${inside}${plain}`;
}

function badge(method: string): Markup {
  return html`<span class="method ${method.toLowerCase()}">${method}</span>`;
}

/** The parts to fill in stand out. */
function pathView(path: string): Markup {
  return html`${path.split(/(\{[^}]*\})/).map((part, index) => (index % 2 === 1 ? html`<var>${part}</var>` : part))}`;
}

function statusKind(status: string): string {
  return status.startsWith('2') ? 'good' : status.startsWith('3') ? 'plain' : 'bad';
}
