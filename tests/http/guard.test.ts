// The front door: who is let in, from where, and that every route is behind it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openGateway } from '../../adapters/index.ts';
import type { LogEntry } from '../../src/http/context.ts';
import { publicPaths } from '../../src/http/guard.ts';
import { createScripted } from '../support/scripted-runtime.ts';

const KEY = 'key-0123456789-0123456789';

const opened: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0)) await close();
});

async function open(env: Record<string, string> = {}) {
  const runtime = createScripted({ chat: () => ({ text: 'ok' }) });
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-guard-'));
  const lines: LogEntry[] = [];
  const { app, close } = await openGateway({
    env: { HONO_AI_CONFIG: '/dev/null', HONO_AI_STATE_DIR: folder, ...env },
    runtimes: [runtime],
    log: (line) => lines.push(line),
  });
  opened.push(async () => {
    await close();
    rmSync(folder, { recursive: true, force: true });
  });
  const request = async (path: string, headers: Record<string, string> = {}, init: RequestInit = {}) =>
    app.fetch(
      new Request(`http://127.0.0.1:8787${path}`, { ...init, headers: { host: '127.0.0.1:8787', ...headers } }),
    );
  const chat = (headers: Record<string, string | undefined> = {}) =>
    request('/text/chat', headers as Record<string, string>, {
      method: 'POST',
      body: '{"messages":[{"role":"user","content":"a secret prompt"}]}',
    });
  return { app, runtime, lines, request, chat };
}

describe('the key', () => {
  it('guards every route but those on the public list', async () => {
    const { app, request } = await open({ HONO_AI_API_KEY: KEY });
    const seen = new Set<string>();
    for (const { method, path } of app.routes) {
      if (method === 'ALL') continue;
      const concrete = path.replace(/:\w+(\{[^}]*\})?/g, 'x');
      const { status } = await request(concrete, {}, { method });
      const isPublic = publicPaths.has(concrete) || concrete.startsWith('/docs/assets/');
      expect(`${method} ${concrete} ${isPublic ? status !== 401 : status}`).toBe(
        `${method} ${concrete} ${isPublic ? true : 401}`,
      );
      seen.add(concrete);
    }
    // The list holds nothing that is not there.
    for (const path of publicPaths) expect(seen).toContain(path);
    expect((await request('/not/a/route')).status).toBe(401);
    expect((await request('/docs/assets/../../v1/models')).status).toBe(401);
    expect((await request('/health', {}, { method: 'POST' })).status).toBe(401);
  });

  it('is taken in three headers, and in one form only', async () => {
    const { chat, runtime } = await open({ HONO_AI_API_KEY: KEY });
    for (const headers of [
      { authorization: `Bearer ${KEY}` },
      { authorization: `bearer ${KEY}` },
      { 'x-api-key': KEY },
      { 'api-key': KEY },
    ]) {
      expect((await chat(headers)).status).toBe(200);
    }
    expect(runtime.chats).toHaveLength(4);
    const wrong = [
      `Basic ${KEY}`,
      `Bearer  ${KEY}`,
      `Bearer ${KEY},`,
      `Bearer ${KEY} x`,
      `Bearer ${KEY}x`,
      `Bearer ${KEY.slice(0, -1)}`,
      KEY,
      'Bearer',
      `Bearer ${'x'.repeat(60_000)}`,
    ];
    for (const authorization of wrong) {
      const response = await chat({ authorization });
      expect(response.status).toBe(401);
      expect(response.headers.get('www-authenticate')).toBe('Bearer');
    }
    expect(runtime.chats).toHaveLength(4);
  });

  it('and prompts never reach the log', async () => {
    const { chat, lines } = await open({ HONO_AI_API_KEY: KEY });
    await chat({ authorization: `Bearer ${KEY}` });
    await chat({ authorization: 'Bearer wrong-key-wrong-key' });
    expect(lines).toHaveLength(2);
    expect(JSON.stringify(lines)).not.toMatch(/key-0123|wrong-key|secret prompt/);
    expect(lines[0]).toMatchObject({
      method: 'POST',
      path: '/text/chat',
      status: 200,
      model: 'script',
      runtime: 'scripted',
    });
    expect(lines[1]).toMatchObject({ status: 401, code: 'invalid_api_key' });
  });
});

describe('Host', () => {
  it('must be one of ours on loopback', async () => {
    const { request, chat, runtime } = await open({ HONO_AI_ALLOWED_HOSTS: 'box.example' });
    for (const host of [
      'localhost',
      'localhost:1',
      '127.0.0.1:8787',
      '[::1]:8787',
      'box.example',
      'BOX.example:80',
      'localhost.',
    ]) {
      expect((await request('/health', { host })).status).toBe(200);
    }
    for (const host of [
      'evil.example',
      '127.0.0.1.evil.example',
      'localhost.evil.example',
      '10.0.0.1',
      'box.example.evil',
    ]) {
      expect((await request('/health', { host })).status).toBe(421);
      expect((await chat({ host })).status).toBe(421);
    }
    expect(runtime.chats).toEqual([]);
  });
});

describe('Origin', () => {
  const evil = [
    'https://evil.example',
    'null',
    'http://localhost.evil.example',
    'https://evil.example#localhost',
    'http://127.0.0.1.evil.example',
    'file://',
  ];

  it('of other sites gets nothing done', async () => {
    const { chat, request, runtime } = await open();
    for (const origin of evil) {
      for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/json', '']) {
        const response = await chat({ origin, ...(type ? { 'content-type': type } : {}) });
        expect(response.status).toBe(403);
        expect(response.headers.has('access-control-allow-origin')).toBe(false);
        expect(response.headers.get('vary')).toContain('origin');
      }
      expect((await request('/models', { origin })).status).toBe(403);
    }
    expect((await chat({ 'sec-fetch-site': 'cross-site' })).status).toBe(403);
    expect((await request('/docs', { 'sec-fetch-site': 'cross-site' })).status).toBe(200);
    expect(runtime.chats).toEqual([]);
  });

  it('of this machine, of programs and of the list may call, with what SDKs send', async () => {
    const { chat, request } = await open({ HONO_AI_ALLOWED_ORIGINS: 'https://ui.example', HONO_AI_API_KEY: KEY });
    for (const origin of [
      'http://localhost:3000',
      'http://127.0.0.1:5173',
      'https://ui.example',
      'app://obsidian.md',
      'chrome-extension://abc',
    ]) {
      const response = await chat({ origin, 'x-api-key': KEY });
      expect(response.status).toBe(200);
      expect(response.headers.get('access-control-allow-origin')).toBe(origin);
      const preflight = await request(
        '/v1/chat/completions',
        {
          origin,
          'access-control-request-method': 'POST',
          'access-control-request-headers': 'authorization, x-stainless-os, x-stainless-lang',
        },
        { method: 'OPTIONS' },
      );
      expect(preflight.status).toBe(200);
      expect(preflight.headers.get('access-control-allow-headers')).toContain('x-stainless-os');
      expect(preflight.headers.has('access-control-allow-credentials')).toBe(false);
    }
    const refused = await request(
      '/v1/models',
      { origin: 'https://evil.example', 'access-control-request-method': 'GET' },
      { method: 'OPTIONS' },
    );
    expect(refused.status).toBe(403);
  });
});

describe('every answer', () => {
  it('has a request id, the caller’s own where it is harmless', async () => {
    const { request } = await open();
    expect((await request('/health', { 'x-request-id': 'mine-1' })).headers.get('x-request-id')).toBe('mine-1');
    expect((await request('/health', { 'x-request-id': 'a b"c' })).headers.get('x-request-id')).toMatch(
      /^req_[0-9a-f]{32}$/,
    );
    for (const path of ['/health', '/nothing', '/text/gen', '/docs']) {
      const response = await request(path);
      expect(response.headers.get('x-request-id')).toBeTruthy();
      expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    }
  });

  it('of a page forbids scripts and frames from elsewhere', async () => {
    const { request } = await open();
    for (const path of ['/docs', '/redoc']) {
      const policy = (await request(path)).headers.get('content-security-policy')!;
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("frame-ancestors 'none'");
    }
  });
});
