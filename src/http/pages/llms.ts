// llms.txt: the routes in plain Markdown, one line each, for models that write programs against them.
import { toApi } from './api.ts';

export function llmsText(openApi: object, { version }: { version: string }): string {
  const api = toApi(openApi);
  const groups = api.groups.map(({ name, operations }) => {
    const lines = operations.map(
      ({ method, path, summary, anchor, keyed }) =>
        `- [${method} ${path}](/redoc#${anchor}): ${oneLine(summary)}${keyed ? '' : ' (no key needed)'}`,
    );
    return `## ${oneLine(name)}\n\n${lines.join('\n')}\n`;
  });
  return `# ${oneLine(api.title)} ${version}

> ${oneLine(api.description) || 'An HTTP API.'}

JSON in and out. Send the API key as \`Authorization: Bearer KEY\`. \`model\` may be left out: the default of the route answers, and says which it was.
With \`"stream": true\` a text route answers as server-sent events. OpenAI SDKs work with the base URL \`/v1\`.
Failures are \`{"error":{"message","type","code","param","request_id","source","hint"}}\`; \`hint\` says what to do.

${groups.join('\n')}
## Documents

- [OpenAPI 3.1](/openapi.json): every schema
- [Reference](/redoc): the same for people
`;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}
