// The outward client over recorded answers: error shapes, limits and what a caller is told. (Faults on real sockets: tests/conformance/http.ts.)
import { http, HttpResponse } from 'msw';
import { setupServer } from 'msw/node';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createUpstream, errorText, fetchTransport } from '../src/upstream.ts';

const mock = setupServer();
beforeAll(() => mock.listen());
afterEach(() => mock.resetHandlers());
afterAll(() => mock.close());

const limits = { firstByteMs: 2000, idleMs: 300, controlMs: 300, maxReplyBytes: 100 };
const upstream = createUpstream({
  name: 'peer',
  baseUrl: 'http://peer.test/v1/',
  headers: { authorization: 'Bearer k' },
  transport: fetchTransport,
  limits,
});
const signal = new AbortController().signal;

describe('upstream', () => {
  it('sends its headers and JSON, and reads the answer', async () => {
    mock.use(
      http.post('http://peer.test/v1/x', async ({ request }) =>
        HttpResponse.json({ got: await request.json(), key: request.headers.get('authorization') }),
      ),
    );
    const reply = await upstream.send('/x', { json: { a: 1 }, signal });
    expect(JSON.parse(await reply.text())).toEqual({ got: { a: 1 }, key: 'Bearer k' });
  });

  it('reads no more than the limit', async () => {
    mock.use(http.post('http://peer.test/v1/x', () => HttpResponse.text('x'.repeat(101))));
    await expect((await upstream.send('/x', { signal })).text()).rejects.toMatchObject({
      code: 'upstream_invalid',
      source: 'peer',
    });
  });

  it('does not follow redirects, which would carry the key elsewhere', async () => {
    let followed = false;
    mock.use(
      http.post(
        'http://peer.test/v1/x',
        () => new HttpResponse(null, { status: 307, headers: { location: 'http://evil.test/' } }),
      ),
      http.all('http://evil.test/', () => ((followed = true), HttpResponse.text('caught'))),
    );
    expect((await upstream.send('/x', { signal })).status).not.toBe(200);
    expect(followed).toBe(false);
  });

  it.each([
    [401, '{"error":"bad key sk-123"}', 'provider_auth'],
    [404, '{"error":{"message":"model not found"}}', 'model_not_found'],
    [429, '{"code":"limit","error":"slow down"}', 'rate_limited'],
    [400, '{"error":{"message":"This exceeds the available context size"}}', 'context_length_exceeded'],
    [422, '{"detail":[{"msg":"field required"}]}', 'invalid_request'],
    [503, '{"error":{"code":503,"message":"Loading model"}}', 'overloaded'],
    [500, '{"error":"CUDA error: out of memory"}', 'insufficient_vram'],
    [500, 'Internal Server Error', 'upstream_error'],
    [418, '<html>teapot</html>', 'invalid_request'],
  ])('maps %i %s → %s', (status, body, code) => {
    const error = upstream.failure(status, body);
    expect(error).toMatchObject({ code, source: 'peer' });
    expect(error.message).not.toContain('sk-123');
    expect(error.message).not.toContain('<html');
  });

  it('control calls have a short deadline and demand JSON', async () => {
    mock.use(
      http.get('http://peer.test/v1/slow', () => new Promise<never>(() => {})),
      http.get('http://peer.test/v1/html', () => HttpResponse.html('<p>')),
      http.get('http://peer.test/v1/no', () => HttpResponse.json({ error: 'x' }, { status: 500 })),
    );
    await expect(upstream.control('/slow')).rejects.toMatchObject({ code: 'upstream_unavailable' });
    await expect(upstream.control('/html')).rejects.toMatchObject({ code: 'upstream_invalid' });
    await expect(upstream.control('/no')).rejects.toMatchObject({ code: 'upstream_error' });
  });

  it('finds the human part of every error shape', () => {
    expect(errorText('{"error":"plain"}')).toBe('plain');
    expect(errorText('{"error":{"message":"deep"}}')).toBe('deep');
    expect(errorText('{"detail":"fast"}')).toBe('fast');
    expect(errorText('{"detail":[{"loc":["x"],"msg":"list"}]}')).toBe('list');
    expect(errorText('{"code":"c","error":"xai"}')).toBe('xai');
    expect(errorText('just text')).toBe('just text');
    expect(errorText('<html>no</html>')).toBe('');
    expect(errorText('{}')).toBe('');
  });
});
