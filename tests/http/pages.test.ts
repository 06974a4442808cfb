// The pages: everything from the document is text, every operation is told, and nothing is loaded from elsewhere.
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { spawnSync } from 'node:child_process';
import { OpenAPIHono, z } from '@hono/zod-openapi';
import { chromium } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { loadAsset } from '../../adapters/assets.ts';
import { capabilities } from '../../src/capabilities/index.ts';
import { siteCss } from '../../src/http/pages/css.ts';
import { landingPage } from '../../src/http/pages/landing.ts';
import { llmsText } from '../../src/http/pages/llms.ts';
import { readingPage } from '../../src/http/pages/reading.ts';
import { swaggerInit, swaggerPage } from '../../src/http/pages/swagger.ts';

const EVIL = `<script>alert("x")</script><img src=x onerror='y'>&`;

interface Sample {
  method?: 'get' | 'post' | 'put' | 'delete';
  path: string;
  tag?: string;
  summary?: string;
  description?: string;
  input?: z.ZodType;
  output?: z.ZodType;
  request?: object;
  public?: boolean;
}

function toDocument(samples: Sample[]): object {
  const app = new OpenAPIHono();
  app.openAPIRegistry.registerComponent('securitySchemes', 'key', { type: 'http', scheme: 'bearer' });
  for (const sample of samples) {
    const { method = 'post', path, tag = 'text', input, output = z.object({ ok: z.boolean() }), request } = sample;
    app.openAPIRegistry.registerPath({
      method,
      path,
      tags: [tag],
      summary: sample.summary ?? `${method} of ${path}`,
      ...(sample.description ? { description: sample.description } : {}),
      ...(sample.public ? { security: [] } : {}),
      request: {
        ...request,
        ...(input ? { body: { required: true, content: { 'application/json': { schema: input as never } } } } : {}),
      },
      responses: { 200: { description: 'Done.', content: { 'application/json': { schema: output as never } } } },
    });
  }
  const info = { title: 'sample', version: '1.2.3', description: 'A sample.' };
  return app.getOpenAPI31Document({ openapi: '3.1.0', info, security: [{ key: [] }] });
}

const real = toDocument(
  Object.values(capabilities).map(({ path, summary, description, input, output }) => ({
    path,
    summary,
    description,
    input,
    output,
  })),
);

/** What a browser would show: tags gone, entities read. */
function toShown(html: string): string {
  const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };
  return html
    .replace(/<[^>]*>/g, ' ')
    .replace(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => entities[name]!)
    .replace(/\s+/g, ' ');
}

describe('readingPage', () => {
  it('tells every operation of every capability, with all of its fields', () => {
    const page = readingPage(real);
    const shown = toShown(page);
    for (const { path, summary, input, output } of Object.values(capabilities)) {
      expect(shown).toContain(path);
      expect(shown).toContain(summary);
      for (const name of [...Object.keys(input.shape), ...Object.keys(output.shape)]) {
        expect(page, `${path} ${name}`).toContain(`<code class="name">${name}</code>`);
      }
    }
    expect(page.match(/<article /g)).toHaveLength(Object.keys(capabilities).length);
  });

  it('gives every entry of the index its place in the page', () => {
    const page = readingPage(toDocument([{ path: '/a/b' }, { path: '/a-b' }, { path: '/a/{b}', method: 'get' }]));
    const ids = [...page.matchAll(/ id="([^"]+)"/g)].map((match) => match[1]);
    expect(new Set(ids).size).toBe(ids.length);
    const links = [...page.matchAll(/href="#([^"]+)"/g)].map((match) => match[1]);
    expect(links.length).toBeGreaterThan(6);
    expect(links.filter((link) => !ids.includes(link))).toEqual([]);
  });

  it('shows text as text, wherever it stands in the document', () => {
    const field = z
      .enum([EVIL, 'b'])
      .default(EVIL as never)
      .describe(EVIL);
    const input = z.object({ [EVIL]: field, list: z.array(z.object({ [EVIL]: z.string().regex(/<b>/) })) });
    const document = toDocument([
      { path: `/x/${EVIL}`, tag: EVIL, summary: EVIL, description: EVIL, input, output: input },
    ]);
    Object.assign((document as { info: object }).info, { title: EVIL, description: EVIL, version: EVIL });
    const page = readingPage(document, { baseUrl: `http://h/${EVIL}` });
    expect(page).not.toMatch(/<script|<img|onerror='/);
    expect(page).not.toContain('<b>');
    expect(toShown(page)).toContain(EVIL);
  });

  it('says what a field may be', () => {
    const node: z.ZodType = z.lazy(() => z.object({ child: node.optional() })).openapi('Node');
    const shown = toShown(
      readingPage(
        toDocument([
          {
            path: '/x',
            input: z.object({
              ranged: z.int().min(2).max(9).default(3),
              open: z.number().gt(0),
              huge: z.int(),
              short: z.string().min(1).max(20_000),
              pair: z.array(z.string()).min(2).max(2),
              choice: z.enum(['a', 'b']),
              literal: z.literal('only'),
              maybe: z.string().nullable(),
              either: z.union([z.string(), z.array(z.string())]),
              map: z.record(z.string(), z.number()),
              part: z.discriminatedUnion('kind', [
                z.object({ kind: z.literal('one'), left: z.string() }),
                z.object({ kind: z.literal('two'), right: z.string() }),
              ]),
              node,
            }),
          },
        ]),
      ),
    );
    for (const words of [
      'ranged integer default 3 2 to 9',
      'open number required more than 0',
      'short string required at least 1, at most 20,000 characters',
      'pair list of string required 2 items',
      'choice one of required "a" "b"',
      'literal "only" required',
      'maybe string or null required',
      'either string or list of string required',
      'map map of number required',
      'where kind is "one"',
      'right string required',
      'node object required 1 field child object as above',
    ]) {
      expect(shown).toContain(words);
    }
    expect(shown).not.toContain('9007199254740991');
  });

  it('says what stands in the path, the query and the headers, and which routes need no key', () => {
    const request = {
      params: z.object({ id: z.string().describe('Which one.') }),
      query: z.object({ limit: z.int().max(50).optional() }),
      headers: z.object({ 'x-kind': z.enum(['fast', 'slow']) }),
    };
    const document = toDocument([
      { path: '/items/{id}', method: 'get', request },
      { path: '/health', method: 'get', tag: 'system', public: true },
    ]);
    const shown = toShown(readingPage(document));
    expect(shown).toMatch(
      /Path id string required Which one\. Query limit integer at most 50 Headers x-kind one of required "fast" "slow"/,
    );
    expect(shown).toMatch(/GET \/health no key needed/);
    expect(shown).not.toMatch(/GET \/items\/ ?\{id\} no key needed/);
  });

  it('lives with a document that holds next to nothing, or refers in a circle', () => {
    expect(readingPage({})).toContain('<main');
    const loop = { a: { $ref: '#/components/schemas/b' }, b: { $ref: '#/components/schemas/a' } };
    const tree = { type: 'object', properties: { left: { $ref: '#/components/schemas/tree' } } };
    const schema = { allOf: [{ $ref: '#/components/schemas/a' }, { $ref: '#/components/schemas/tree' }] };
    const responses = { 200: { description: '', content: { 'application/json': { schema } } } };
    const page = readingPage({ paths: { '/x': { get: { responses } } }, components: { schemas: { ...loop, tree } } });
    expect(toShown(page)).toContain('left');
  });
});

describe('the example requests', () => {
  it('are ones that the capability accepts', () => {
    const page = readingPage(real);
    for (const { path, input } of Object.values(capabilities)) {
      const command = toCommand(page, path);
      const body: unknown = JSON.parse(/-d '([\s\S]*)'$/.exec(command)![1]!.replaceAll(`'\\''`, "'"));
      expect(input.safeParse(body).success, `${path} ${JSON.stringify(body)}`).toBe(true);
    }
  });

  it('reach a shell as one argument each, whatever they hold', () => {
    const input = z.object({ prompt: z.string().openapi({ example: `it's $(id) \`id\` "q"\n` }) });
    const page = readingPage(toDocument([{ path: '/say', input }]), { baseUrl: 'http://127.0.0.1:1' });
    const command = toCommand(page, '/say').replace(/^curl/, `printf '%s\\0'`);
    const { stdout } = spawnSync('sh', ['-c', command], { encoding: 'utf8', env: { HONO_AI_API_KEY: 'k e y' } });
    expect(stdout.split('\0').slice(0, -1)).toEqual([
      'http://127.0.0.1:1/say',
      '-H',
      'Authorization: Bearer k e y',
      '-H',
      'Content-Type: application/json',
      '-d',
      JSON.stringify({ prompt: `it's $(id) \`id\` "q"\n` }),
    ]);
  });
});

describe('landingPage', () => {
  const landing = { version: '0.1.0', host: 'node 24.1.0', keyRequired: false };

  it('links to the documents and says where to point a program', () => {
    const page = landingPage({ ...landing, baseUrl: 'http://localhost:11000' });
    for (const link of ['/docs', '/redoc', '/openapi.json', '/llms.txt']) expect(page).toContain(`href="${link}"`);
    const shown = toShown(page);
    expect(shown).toContain('curl http://localhost:11000/text/gen');
    expect(shown).toContain(`baseURL: 'http://localhost:11000/v1'`);
    expect(shown).not.toContain('HONO_AI_API_KEY');
    expect(toShown(landingPage({ ...landing, keyRequired: true }))).toContain('Bearer $HONO_AI_API_KEY');
  });

  it('tells the runtimes and escapes their names', () => {
    const page = landingPage({
      ...landing,
      host: EVIL,
      runtimes: [
        { name: EVIL, ok: true },
        { name: 'xai', ok: false },
      ],
    });
    expect(page).not.toMatch(/<script|<img/);
    expect(toShown(page)).toMatch(/xai\s+down/);
  });
});

describe('what the pages load', () => {
  const pages = {
    landing: landingPage({ version: '0.1.0', host: 'bun', keyRequired: true }),
    reading: readingPage(real),
    swagger: swaggerPage(),
  };

  it.each(Object.entries(pages))('%s: files of this gateway only, no inline script or style', (_, page) => {
    const loaded = [...page.matchAll(/<(?:link|script|img|iframe|source)\b[^>]*?\b(?:href|src)="([^"]*)"/g)].map(
      (match) => match[1]!,
    );
    expect(loaded.length).toBeGreaterThan(1);
    for (const address of loaded) expect(address).toMatch(/^(\/(docs\/)?assets\/|data:image\/svg\+xml,)/);
    expect(page).not.toMatch(/(?:href|src|action)="(?:https?:)?\/\//);
    expect(page).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:/);
  });

  it('style sheet and start script name no other place', () => {
    expect(siteCss).not.toMatch(/url\(|@import|https?:/);
    expect(swaggerInit).not.toMatch(/https?:/);
    expect(swaggerInit).toContain('validatorUrl: null');
    expect(swaggerInit).toContain('persistAuthorization: false');
  });
});

describe('llmsText', () => {
  it('lists every route in one line, with the place where it is told', () => {
    const text = llmsText(real, { version: '9.9.9' });
    const page = readingPage(real);
    expect(text).toMatch(/^# sample 9\.9\.9\n\n> A sample\.\n/);
    for (const { path, summary } of Object.values(capabilities)) {
      const anchor = new RegExp(`^- \\[POST ${path}\\]\\(/redoc#([\\w-]+)\\): ${summary}$`, 'm').exec(text)?.[1];
      expect(page).toContain(`id="${anchor}"`);
    }
  });

  it('keeps a summary of several lines in its line', () => {
    const text = llmsText(toDocument([{ path: '/a', summary: 'one\n## two' }]), { version: '1' });
    expect(text).toContain(': one ## two\n');
  });
});

describe('loadAsset', () => {
  it('gives the files of the interactive page', async () => {
    const css = await loadAsset('swagger-ui.css');
    expect(css?.contentType).toBe('text/css; charset=utf-8');
    expect(new TextDecoder().decode(css!.bytes)).toContain('.swagger-ui');
    expect((await loadAsset('swagger-ui-bundle.js'))!.bytes.length).toBeGreaterThan(500_000);
  });

  it.each([
    'package.json',
    '../hono/package.json',
    'index.html',
    '',
    'toString',
    '__proto__',
    'swagger-ui.css/../package.json',
  ])('gives nothing else: %s', async (name) => expect(await loadAsset(name)).toBeUndefined());
});

const browser = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path),
);

describe.skipIf(!browser)('in Chromium', () => {
  it('renders without one request elsewhere, one script error or one breach of a strict policy', async () => {
    const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'";
    const server = createServer((request, response) => {
      void route(request.url!).then((found) => {
        response.writeHead(found ? 200 : 404, {
          'content-type': found?.[0] ?? 'text/plain',
          'content-security-policy': policy,
        });
        response.end(found?.[1]);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const chrome = await chromium.launch({
      executablePath: browser!,
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
    });
    try {
      const page = await chrome.newPage({ viewport: { width: 390, height: 800 } });
      const elsewhere: string[] = [];
      const complaints: string[] = [];
      page.on('request', (request) => {
        if (!request.url().startsWith(base) && !request.url().startsWith('data:')) elsewhere.push(request.url());
      });
      page.on('console', (message) => complaints.push(message.text()));
      page.on('pageerror', (error) => complaints.push(error.message));
      for (const path of ['/', '/redoc']) {
        await page.goto(base + path);
        const overflow = await page.evaluate('document.documentElement.scrollWidth - window.innerWidth');
        expect(overflow, `${path} is wider than a phone`).toBeLessThanOrEqual(0);
      }
      await page.goto(`${base}/docs`);
      await page.waitForSelector('.opblock');
      expect(await page.locator('.opblock').count()).toBe(Object.keys(capabilities).length);
      await page.locator('.opblock-summary').first().click();
      await page.waitForSelector('.opblock-body textarea');
      expect(elsewhere).toEqual([]);
      expect(complaints).toEqual([]);
    } finally {
      await chrome.close();
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  }, 60_000);
});

async function route(path: string): Promise<[contentType: string, body: string | Uint8Array] | undefined> {
  const html = 'text/html; charset=utf-8';
  if (path === '/') return [html, landingPage({ version: '0.1.0', host: 'node', keyRequired: true })];
  if (path === '/redoc') return [html, readingPage(real)];
  if (path === '/docs') return [html, swaggerPage()];
  if (path === '/openapi.json') return ['application/json', JSON.stringify(real)];
  if (path === '/assets/site.css') return ['text/css', siteCss];
  if (path === '/docs/assets/init.js') return ['text/javascript', swaggerInit];
  const asset = await loadAsset(path.replace('/docs/assets/', ''));
  return asset && [asset.contentType, asset.bytes];
}

/** The example request of a route, as a browser would copy it. */
function toCommand(page: string, path: string): string {
  const commands = [...page.matchAll(/<code class="all">(curl[\s\S]*?)<\/code>/g)].map((match) =>
    match[1]!.replace(
      /&(amp|lt|gt|quot|#39);/g,
      (_, name: string) => ({ amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" })[name]!,
    ),
  );
  return commands.find((command) => command.includes(`${path}'`))!;
}
