// The media tools do the same on Node, Bun and Deno, and let each of them exit.
import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { engines, root } from '../support/gateway.ts';
import { makeMp3 } from '../support/media/index.ts';

it('measure, clean, mask and convert alike on every host', { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hono-ai-media-host-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  // Stands for the program: what matters is that it is started, fed and read alike.
  const ffmpeg = join(folder, 'ffmpeg');
  writeFileSync(join(folder, 'made'), makeMp3({ seconds: 1 }));
  const script = `if [ "$2" = "-encoders" ]; then echo " A....D libmp3lame  MP3"; else cp ${folder}/made out; fi`;
  writeFileSync(ffmpeg, `#!/bin/sh\n${script}\n`);
  chmodSync(ffmpeg, 0o755);
  const told: Record<string, unknown>[] = [];
  // One after the other: two engines on two cores would only slow each other down.
  for (const { command, args } of Object.values(engines)) {
    const { stdout } = await promisify(execFile)(command, [...args, 'tests/support/media-host.ts', ffmpeg], {
      cwd: root,
      timeout: 60_000,
    });
    told.push(JSON.parse(stdout) as Record<string, unknown>);
  }
  const [node, bun, deno] = told;
  expect(node).toMatchObject({
    measured: [
      { mediaType: 'image/png', width: 32, height: 24, frames: 1 },
      { mediaType: 'image/gif', width: 32, height: 24, frames: 2 },
      { mediaType: 'video/mp4', width: 32, height: 24, frames: 2, duration_s: 1, fps: 2 },
      { mediaType: 'video/webm', width: 32, height: 24, frames: 2, fps: 2 },
      { mediaType: 'audio/wav', duration_s: 1 },
      { mediaType: 'audio/mpeg' },
      { mediaType: 'audio/flac' },
      { mediaType: 'audio/ogg' },
    ],
    png: { mediaType: 'image/png', width: 64, height: 16 },
    alpha: { mediaType: 'image/png', width: 32, height: 24 },
    pixels: { mediaType: 'image/png', width: 16, height: 16 },
    webp: { mediaType: 'image/webp', width: 32, height: 24 },
    moving: { mediaType: 'image/webp', frames: 2 },
    mp3: { mediaType: 'audio/mpeg' },
    refused: 'invalid_request: The picture is larger than 4 megapixels.',
  });
  expect(bun).toEqual(node);
  expect(deno).toEqual(node);
});
