// What people and programs read: the landing page, the API document and its two views, llms.txt.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { GatewayError } from '../error.ts';
import type { AppContext, AppEnv, AppOptions } from '../http/context.ts';
import { describeDocument } from '../http/openapi.ts';
import { landingPage } from '../http/pages/landing.ts';
import { llmsText } from '../http/pages/llms.ts';
import { readingPage } from '../http/pages/reading.ts';
import { siteCss } from '../http/pages/css.ts';
import { swaggerInit, swaggerPage } from '../http/pages/swagger.ts';
import { respond } from '../http/respond.ts';

/** Pages load nothing from elsewhere; only the interactive one runs scripts. */
const PAGE =
  "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const INTERACTIVE =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

export function serveDocs(app: OpenAPIHono<AppEnv>, { version, host, config }: AppOptions): void {
  // Made once, when somebody first reads it: starting need not wait for it.
  let document: ReturnType<typeof describeDocument> | undefined;
  const api = () => (document ??= describeDocument(app, version));

  app.get('/', (c) => {
    // Ollama's clients look for exactly these words.
    if (!c.req.header('accept')?.includes('text/html'))
      return respond(c, 'Ollama is running', { contentType: 'text/plain; charset=utf-8' });
    return page(c, landingPage({ version, host, keyRequired: config.api_key !== undefined, baseUrl: originOf(c) }));
  });
  app.get('/openapi.json', (c) =>
    respond(c, JSON.stringify(api()), { contentType: 'application/json', headers: CACHED }),
  );
  app.get('/redoc', (c) => page(c, readingPage(api(), { baseUrl: originOf(c) })));
  app.get('/docs', (c) => page(c, swaggerPage(), INTERACTIVE));
  app.get('/llms.txt', (c) => respond(c, llmsText(api(), { version }), { contentType: 'text/plain; charset=utf-8' }));
  app.get('/assets/site.css', (c) => respond(c, siteCss, { contentType: 'text/css; charset=utf-8', headers: CACHED }));
  app.get('/favicon.ico', (c) => respond(c, '', { status: 404, contentType: 'text/plain' }));
  app.get('/docs/assets/init.js', (c) =>
    respond(c, swaggerInit, { contentType: 'text/javascript; charset=utf-8', headers: CACHED }),
  );
  app.get('/docs/assets/:name', async (c) => {
    const file = await c.var.app.asset(c.req.param('name'));
    if (!file) throw new GatewayError('not_found', 'There is no such file.');
    return respond(c, file.bytes, { contentType: file.contentType, headers: CACHED });
  });
}

const CACHED = { 'cache-control': 'public, max-age=300' };

/** Examples on the pages name the address that the reader used. */
function originOf(c: AppContext): string {
  return new URL(c.req.url).origin;
}

function page(c: AppContext, html: string, policy = PAGE): Response {
  return respond(c, html, { contentType: 'text/html; charset=utf-8', headers: { 'content-security-policy': policy } });
}
