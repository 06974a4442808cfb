// Files in another format: what is asked is made where this machine can, nothing is lost where it cannot, and nothing outlives its caller.
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openMediaTools } from '../../adapters/media/index.ts';
import { sniff } from '../../src/artifacts/sniff.ts';
import { GatewayError } from '../../src/error.ts';
import { finishFiles, toConversion } from '../../src/media.ts';
import { eventually } from '../support/eventually.ts';
import * as media from '../support/media/index.ts';

const RED = [200, 10, 10] as const;
const BLUE = [10, 10, 200] as const;
const never = new AbortController().signal;
const none = openMediaTools({ maxPixels: 4_000_000, ffmpeg: 'no-such-program-here' });

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hono-ai-convert-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('pictures', () => {
  const tools = none;

  it.each([
    ['png', 'jpeg'],
    ['png', 'webp'],
    ['jpeg', 'png'],
    ['webp', 'jpeg'],
    ['gif', 'png'],
  ] as const)('are made of %s into %s', async (from, to) => {
    const picture = await media.makePicture({ width: 40, height: 30, type: from });
    const made = await tools.convert(picture, { format: to }, never);
    expect(await media.probe(made!)).toMatchObject({ type: `image/${to}`, width: 40, height: 30 });
  });

  it('are as good as asked, and white where a JPEG cannot be transparent', async () => {
    const pattern = await media.makePattern(200, 200);
    const [small, large] = await Promise.all(
      [0, 100].map((quality) => tools.convert(pattern, { format: 'jpeg', quality }, never)),
    );
    expect(small!.length * 4).toBeLessThan(large!.length);
    const clear = await media.makePicture({ width: 8, height: 8, alpha: 0 });
    const flat = await tools.convert(clear, { format: 'jpeg' }, never);
    expect([...(await sharp(flat).raw().toBuffer())].every((value) => value > 250)).toBe(true);
  });

  it('that move go on moving where both formats can', async () => {
    const frames = [RED, BLUE, RED];
    for (const [from, to] of [
      ['gif', 'webp'],
      ['webp', 'gif'],
    ] as const) {
      const moving = await media.makeAnimation(from, { width: 20, height: 10, fps: 4, frames });
      const made = await tools.convert(moving, { format: to }, never);
      expect(await media.probe(made!)).toMatchObject({ width: 20, height: 10, frames: 3 });
      const still = await tools.convert(moving, { format: 'png' }, never);
      expect(await media.probe(still!)).toMatchObject({ width: 20, height: 10, frames: 1 });
    }
  });

  it('that are none are refused', async () => {
    for (const bytes of [await media.truncatedPng(), media.pixelBomb(60_000)])
      await expect(tools.convert(bytes, { format: 'webp' }, never)).rejects.toMatchObject({ code: 'invalid_request' });
    for (const bytes of [media.activeSvg(), media.plainText(), new Uint8Array()])
      expect(await tools.convert(bytes, { format: 'png' }, never)).toBeUndefined();
  });
});

describe('without ffmpeg', () => {
  it('films and sounds stay as they are, and that is said', async () => {
    const wav = media.makeWav({ seconds: 0.1 });
    expect(await none.convert(wav, { format: 'mp3' }, never)).toBeUndefined();
    const { files, warnings } = await finishFiles([{ name: 'a', bytes: wav }], { format: 'mp3' }, finishing(none));
    expect(files).toEqual([{ name: 'a', bytes: wav }]);
    expect(warnings).toEqual([
      'The file stays audio/wav: ffmpeg, which could make mp3 of it, is missing here or could not.',
    ]);
  });
});

describe('finishing', () => {
  it('changes only what is of another format, and does not hold a film in memory to see that', async () => {
    const mp4 = await media.makeMp4({ width: 32, height: 32, fps: 2, frames: [RED, BLUE] });
    let read = 0;
    async function* pieces() {
      for (let at = 0; at < mp4.length; at += 100) {
        read++;
        yield mp4.subarray(at, at + 100);
      }
    }
    const head = Math.min(82, Math.ceil(mp4.length / 100));
    const { files, warnings } = await finishFiles([{ bytes: pieces() }], { format: 'mp4' }, finishing(none));
    expect(warnings).toEqual([]);
    expect(read).toBeLessThanOrEqual(head);
    const whole = await Array.fromAsync(files[0]!.bytes as AsyncIterable<Uint8Array>);
    expect(Buffer.concat(whole).equals(mp4)).toBe(true);
  });

  it('closes a film that nobody reads on', async () => {
    let closed = false;
    async function* pieces() {
      try {
        for (;;) yield media.makeWav({ seconds: 1 });
      } finally {
        closed = true;
      }
    }
    const { files } = await finishFiles([{ bytes: pieces() }], { format: 'wav' }, finishing(none));
    for await (const _ of files[0]!.bytes as AsyncIterable<Uint8Array>) break;
    expect(closed).toBe(true);
  });

  it('loses no picture that cannot be changed', async () => {
    const broken = await media.truncatedPng();
    const { files, warnings } = await finishFiles([{ bytes: broken }], { format: 'webp' }, finishing(none));
    expect(files).toEqual([{ bytes: broken }]);
    expect(warnings[0]).toMatch(/^The file stays image\/png: it could not be made webp/);
  });

  it('does nothing where nothing is asked', () => {
    expect(toConversion('image', {})).toBeUndefined();
    expect(toConversion('image', { output_format: 'webp', output_compression: 7 })).toEqual({
      format: 'webp',
      quality: 7,
    });
    expect(toConversion('audio', { format: 'ogg' })).toEqual({ format: 'ogg', quality: undefined });
  });
});

describe('ffmpeg', () => {
  /** A program that looks like it, and does what the test wants. */
  function program(name: string, script: string): string {
    const path = join(folder, name);
    writeFileSync(
      path,
      `#!/bin/sh\nif [ "$2" = "-encoders" ]; then echo " A....D libmp3lame  MP3"; exit 0; fi\n${script}\n`,
    );
    chmodSync(path, 0o755);
    return path;
  }
  const open = (ffmpeg: string) => openMediaTools({ maxPixels: 4_000_000, ffmpeg });
  const wav = media.makeWav({ seconds: 0.1 });
  const left = () => readdirSync(tmpdir()).filter((name) => name.startsWith('hono-ai-media-'));

  it('is told exactly what to read, and sees none of this process’s secrets', async () => {
    process.env['HONO_AI_TEST_SECRET'] = 'hush';
    const said = join(folder, 'said');
    const tools = open(program('say', `{ pwd; echo "$@"; env; } > ${said}; printf made > out`));
    const made = await tools.convert(wav, { format: 'mp3' }, never);
    delete process.env['HONO_AI_TEST_SECRET'];
    expect(new TextDecoder().decode(made)).toBe('made');
    const told = readFileSync(said, 'utf8');
    expect(told).toContain('-nostdin');
    expect(told).toContain('-protocol_whitelist file -f wav -i file:in');
    expect(told).not.toContain('hush');
    expect(existsSync(told.split('\n')[0]!)).toBe(false);
  });

  it('that fails, or makes nothing, makes a warning', async () => {
    for (const script of ['exit 1', 'exit 0', 'printf "" > out'])
      expect(await open(program('fail', script)).convert(wav, { format: 'mp3' }, never)).toBeUndefined();
    expect(await open(program('fail', 'exit 1')).convert(wav, { format: 'flac' }, never)).toBeUndefined();
  });

  it('is stopped when its caller leaves, and leaves nothing behind', async () => {
    const before = left();
    const pid = join(folder, 'pid');
    const tools = open(program('slow', `echo $$ > ${pid}; exec sleep 60`));
    const abort = new AbortController();
    const asked = tools.convert(wav, { format: 'mp3' }, abort.signal);
    const waiting = tools.convert(wav, { format: 'mp3' }, abort.signal);
    await eventually('it runs', () => existsSync(pid) && readFileSync(pid, 'utf8').endsWith('\n'));
    abort.abort();
    for (const one of [asked, waiting]) await expect(one).rejects.toMatchObject({ code: 'client_closed' });
    const gone = () => spawnSync('kill', ['-0', readFileSync(pid, 'utf8').trim()]).status !== 0;
    await eventually('it is gone', gone);
    expect(left()).toEqual(before);
    await expect(tools.convert(wav, { format: 'mp3' }, AbortSignal.abort())).rejects.toBeInstanceOf(GatewayError);
  });

  const real = spawnSync('ffmpeg', ['-version']).status === 0;
  it.runIf(real)('makes films and sounds of each other’s formats', { timeout: 60_000 }, async () => {
    const tools = openMediaTools({ maxPixels: 4_000_000 });
    const frames = [RED, BLUE, RED, BLUE];
    const film = { width: 32, height: 32, fps: 4, frames };
    const sources: [Uint8Array, string[]][] = [
      [await media.makeWebm(film), ['mp4', 'gif', 'webp']],
      [await media.makeAnimation('webp', film), ['mp4', 'webm']],
      [media.makeFlac({ seconds: 1 }), ['wav', 'ogg', 'mp3']],
    ];
    for (const [source, formats] of sources) {
      for (const format of formats) {
        const made = await tools.convert(source, { format }, never);
        // This ffmpeg may have been built without the encoder.
        if (!made) continue;
        const told = await media.probe(made);
        expect(told.type, format).toMatch(format === 'mp3' ? /mpeg/ : new RegExp(format));
        if (told.frames) expect(told.frames, format).toBe(4);
        expect(told.duration_s, format).toBeCloseTo(1, 0);
      }
    }
  });

  it.runIf(real)('reads no other file, whatever a film says', async () => {
    const secret = join(folder, 'secret.wav');
    writeFileSync(secret, media.makeWav({ seconds: 1 }));
    const tools = openMediaTools({ maxPixels: 4_000_000 });
    const playlist = `#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://${secret}\n#EXT-X-ENDLIST\n`;
    const concat = `ffconcat version 1.0\nfile '${secret}'\n`;
    for (const text of [playlist, concat]) {
      const plain = new TextEncoder().encode(text);
      const dressed = new Uint8Array([...new TextEncoder().encode('ID3\u0004\0\0\0\0\0\0'), ...plain]);
      for (const bytes of [plain, dressed])
        expect(await tools.convert(bytes, { format: 'wav' }, never)).toBeUndefined();
    }
  });
});

function finishing(tools: typeof none) {
  return { tools, sniff, signal: never };
}
