// Music by POST /v1/audio/generations, over a socket: the sound itself, or JSON where that is wanted.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { probe } from '../support/media/probe.ts';
import { openAtelier, type OpenAtelier } from '../support/open-atelier.ts';

const PATH = '/v1/audio/generations';

let gateway: OpenAtelier;
beforeAll(async () => void (gateway = await openAtelier()));
afterAll(() => gateway?.close());
beforeEach(() => void gateway.atelier.seen.splice(0));

const ask = (body: unknown, headers: Record<string, string> = {}) => gateway.ask(PATH, { body, headers });
const toBytes = async (response: Response) => new Uint8Array(await response.arrayBuffer());
const toError = async (response: Response) =>
  ((await response.json()) as { error: { code: string; param: string; hint: string } }).error;

describe('music', () => {
  it('comes as the sound itself', async () => {
    const response = await ask({ model: 'lute', prompt: 'baroque, 琵琶', seconds: 2, response_format: 'wav' });
    expect(response.status).toBe(200);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': expect.stringMatching(/^audio\/(x-)?wav$/),
      'content-disposition': expect.stringMatching(/^inline; filename="[^"]+\.wav"/),
      'x-model': 'lute',
      'x-job-id': expect.stringMatching(/^job_/),
    });
    const bytes = await toBytes(response);
    expect(bytes.byteLength).toBe(Number(response.headers.get('content-length')));
    expect(await probe(bytes)).toMatchObject({ type: 'audio/wav', duration_s: 2 });
  });

  it('takes the names that others use, and null for nothing', async () => {
    const knobs = {
      lyrics: '[verse] la',
      bpm: 90,
      key: 'E minor',
      time_signature: '3',
      language: 'en',
      steps: 8,
      seed: 2,
    };
    const response = await ask({ input: 'folk', duration: '3', model: null, format: 'wav', voice: 'x', ...knobs });
    expect(await probe(await toBytes(response))).toMatchObject({ duration_s: 3 });
    expect(gateway.atelier.seen[0]!.input).toEqual({ prompt: 'folk', seconds: 3, format: 'wav', ...knobs });
  });

  it('comes in JSON where that is asked for', async () => {
    const inline = await ask({ prompt: 'x', response_format: 'b64_json' });
    const answer = (await inline.json()) as { created: number; data: { b64_json: string }[] };
    expect(Object.keys(answer)).toEqual(['created', 'data']);
    expect(await probe(new Uint8Array(Buffer.from(answer.data[0]!.b64_json, 'base64')))).toMatchObject({
      type: 'audio/wav',
    });
    const linked = (await (await ask({ prompt: 'x', response_format: 'url' })).json()) as { data: { url: string }[] };
    expect(linked.data[0]!.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/artifacts\/art_/);
    expect(await probe(await toBytes(await fetch(linked.data[0]!.url)))).toMatchObject({ type: 'audio/wav' });
    const accepted = await ask({ prompt: 'x' }, { accept: 'application/json' });
    expect(((await accepted.json()) as typeof answer).data[0]!.b64_json).toMatch(/^UklGR/);
    const any = await ask({ prompt: 'x' }, { accept: 'application/json, */*' });
    expect(any.headers.get('content-type')).toMatch(/^audio\//);
  });

  it('is made once per Idempotency-Key, and its bytes are the same again', async () => {
    const first = await ask({ prompt: 'once' }, { 'idempotency-key': 'song' });
    const again = await ask({ prompt: 'once' }, { 'idempotency-key': 'song' });
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(again.headers.get('content-type')).toBe(first.headers.get('content-type'));
    expect(Buffer.compare(await toBytes(again), await toBytes(first))).toBe(0);
    expect(gateway.atelier.seen).toHaveLength(1);
  });

  it('is a job like any other', async () => {
    const taken = await ask({ prompt: 'x' }, { prefer: 'respond-async' });
    expect([taken.status, ((await taken.json()) as { capability: string }).capability]).toEqual([
      202,
      'music.generate',
    ]);
  });

  it('stops when its caller leaves', async () => {
    const before = gateway.atelier.aborts;
    const leave = new AbortController();
    const asked = gateway.ask(PATH, { body: { prompt: 'hold' }, signal: leave.signal }).catch(() => undefined);
    await eventually('it is held', () => gateway.atelier.held > 0);
    leave.abort();
    await asked;
    await eventually('the runtime stopped', () => gateway.atelier.aborts === before + 1);
  });

  it('fails as OpenAI does', async () => {
    const broken = await ask({ prompt: 'fail' });
    expect([broken.status, (await toError(broken)).code]).toEqual([502, 'upstream_error']);
    const cannot = await ask({ prompt: 'x', model: 'brush' });
    expect([cannot.status, (await toError(cannot)).hint]).toEqual([501, 'Models that do: lute.']);
  });

  it.each([
    [{}, 'prompt'],
    [{ input: '' }, 'prompt'],
    [{ prompt: 'x', duration: 'long' }, 'duration'],
    [{ prompt: 'x', seconds: 0 }, 'seconds'],
    [{ prompt: 'x', bpm: 1000 }, 'bpm'],
    [{ prompt: 'x', response_format: 'midi' }, 'response_format'],
    [{ prompt: 'x', format: 'aiff' }, 'format'],
  ])('refuses %j', async (body, param) => {
    const response = await ask(body);
    expect([response.status, (await toError(response)).param]).toEqual([400, param]);
  });
});
