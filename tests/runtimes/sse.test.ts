// The SSE reader: the same events however the network cuts the bytes, and no surprise of real servers lost.
import fc from '../support/property.ts';
import { describe, expect, it } from 'vitest';
import { readEvents } from '../../adapters/runtimes/sse.ts';
import type { EventOptions } from '../../adapters/runtimes/sse.ts';
import { GatewayError } from '../../src/error.ts';

const encoder = new TextEncoder();

describe('sse', () => {
  it('yields the data of each event, and its name where it has one', async () => {
    expect(await read(['data: one\n\nevent: more\ndata: two\ndata: lines\n\n'])).toEqual([
      { data: 'one' },
      { event: 'more', data: 'two\nlines' },
    ]);
  });

  it('skips comments, ids and empty events, and takes CRLF and a byte order mark', async () => {
    expect(await read(['\uFEFF: hello\r\n\r\nid: 7\r\ndata: x\r\n\r\n\r\n:\r\ndata:y\r\n\r\n'])).toEqual([
      { data: 'x' },
      { data: 'y' },
    ]);
  });

  it('takes an `error:` line for an event, also one that arrives in pieces', async () => {
    const event = { event: 'error', data: '{"code":500}' };
    expect(await read(['error: {"code":500}\n\n'])).toEqual([event]);
    expect(await read(['er', 'ror: {"co', 'de":500}\n', '\n'])).toEqual([event]);
  });

  it('yields what the end of the body completes, and says so', async () => {
    expect(await read(['data: a\n\ndata: b\n'])).toEqual([{ data: 'a' }, { data: 'b', cut: true }]);
    expect(await read(['data: a\n\ndata: {"b'])).toEqual([{ data: 'a' }, { data: '{"b', cut: true }]);
    expect(await read([])).toEqual([]);
  });

  it('ends at the event that it is told, and reads the rest so that the connection is free', async () => {
    const source = toBody(['data: a\n\ndata: [DONE]\n\ndata: b\n\n', 'data: c\n\n']);
    expect(await read(source, { end: '[DONE]' })).toEqual([{ data: 'a' }, { data: '[DONE]' }]);
    await pause();
    expect(source.state()).toBe('read');
  });

  it('cuts a body that goes on and on after its end', async () => {
    let first = true;
    let returned = false;
    const body = {
      [Symbol.asyncIterator]: () => ({
        async next(): Promise<IteratorResult<Uint8Array>> {
          const value = first ? encoder.encode('data: [DONE]\n\n') : new Uint8Array(20_000);
          first = false;
          return { done: returned, value };
        },
        async return(): Promise<IteratorResult<Uint8Array>> {
          returned = true;
          return { done: true, value: undefined };
        },
      }),
    };
    expect(await read(body, { end: '[DONE]' })).toEqual([{ data: '[DONE]' }]);
    await pause();
    expect(returned).toBe(true);
  });

  it('lets go of the body when its reader stops', async () => {
    const source = toBody(['data: a\n\n', 'data: b\n\n', 'data: c\n\n']);
    for await (const _ of readEvents(source, { source: 'x' })) break;
    expect(source.state()).toBe('returned');
  });

  it('refuses an event without end', async () => {
    for (const pieces of [
      ['data: ', 'x'.repeat(60), 'x'.repeat(60)],
      [`data: ${'x'.repeat(120)}\n`, 'data: y\n'],
    ]) {
      const error: unknown = await read(pieces, { maxEventChars: 100 }).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(GatewayError);
      expect(error).toMatchObject({ code: 'upstream_invalid', source: 'x' });
    }
  });

  it('gives the same events however the bytes are cut', async () => {
    const line = fc.oneof(
      fc
        .string({ unit: 'grapheme' })
        .filter((text) => !text.includes('\uFFFD'))
        .map((text) => `data: ${JSON.stringify({ text })}`),
      fc.constantFrom(
        ': ping',
        ':',
        'event: x',
        'id: 1',
        'retry: 5',
        'error: {"code":500}',
        '',
        '',
        'data: 🧜‍♀️東京',
        'odd',
      ),
    );
    const stream = fc.tuple(fc.array(line, { maxLength: 20 }), fc.constantFrom('\n', '\r\n'), fc.boolean());
    await fc.assert(
      fc.asyncProperty(stream, fc.infiniteStream(fc.nat({ max: 12 })), async ([lines, end, closed], sizes) => {
        const bytes = encoder.encode(lines.join(end) + (closed ? end + end : ''));
        const whole = await read(toBody([bytes]));
        const cut = await read(toBody(cutUp(bytes, sizes)));
        expect(cut).toEqual(whole);
        expect(JSON.stringify(cut)).not.toContain('\uFFFD');
      }),
      { numRuns: 300 },
    );
  });
});

type Pieces = (string | Uint8Array)[];

async function read(body: Pieces | AsyncIterable<Uint8Array>, options: Partial<EventOptions> = {}) {
  const events = [];
  const source = Array.isArray(body) ? toBody(body) : body;
  for await (const event of readEvents(source, { source: 'x', ...options })) events.push(event);
  return events;
}

function toBody(pieces: Pieces) {
  let state: 'open' | 'read' | 'returned' = 'open';
  const left = pieces.map((piece) => (typeof piece === 'string' ? encoder.encode(piece) : piece));
  return {
    state: () => state,
    [Symbol.asyncIterator]: () => ({
      async next(): Promise<IteratorResult<Uint8Array>> {
        const value = left.shift();
        if (value) return { done: false, value };
        state = 'read';
        return { done: true, value: undefined };
      },
      async return(): Promise<IteratorResult<Uint8Array>> {
        state = 'returned';
        return { done: true, value: undefined };
      },
    }),
  };
}

function cutUp(bytes: Uint8Array, sizes: Iterator<number>): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const size = sizes.next().value as number;
    pieces.push(bytes.slice(at, at + size));
    at += size;
  }
  return pieces;
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20));
}
