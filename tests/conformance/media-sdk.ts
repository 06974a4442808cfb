// What the real OpenAI SDK must get of pictures and films.
import OpenAI, { toFile } from 'openai';
import { expect, it } from 'vitest';
import { eventually } from '../support/media-gateway.ts';
import { makePicture, probe } from '../support/media/index.ts';
import type { Get } from './media.ts';

export function testMediaSdk(get: Get): void {
  const open = () => {
    const { gateway } = get();
    const base = 'http://127.0.0.1';
    return new OpenAI({
      apiKey: 'no key is asked for on loopback',
      baseURL: `${base}/v1`,
      maxRetries: 0,
      fetch: (url, init) => gateway.request(String(url).slice(base.length), init as RequestInit),
    });
  };
  const fromBase64 = (text: string) => Uint8Array.from(Buffer.from(text, 'base64'));

  it('openai: images.generate', async () => {
    const answer = await open().images.generate({
      model: 'sdxl-lightning',
      prompt: 'a red fox',
      size: '256x256',
      n: 2,
      output_format: 'webp',
    });
    expect(answer.data).toHaveLength(2);
    for (const { b64_json } of answer.data!) {
      expect(await probe(fromBase64(b64_json!))).toMatchObject({ type: 'image/webp', width: 256, height: 256 });
    }
  });

  it('openai: images.edit with two files and a mask', async () => {
    const { comfyui } = get();
    const before = comfyui.uploads().length;
    const [first, second] = [
      await makePicture({ width: 256, height: 256, colour: [20, 40, 200] }),
      await makePicture({ width: 256, height: 256, colour: [200, 30, 30] }),
    ];
    const files = await Promise.all([toFile(first, 'a.png'), toFile(second, 'b.png')]);
    const answer = await open().images.edit({ model: 'qwen-image-edit', image: files, prompt: 'put them together' });
    expect(await probe(fromBase64(answer.data![0]!.b64_json!))).toMatchObject({ type: 'image/png' });
    expect(comfyui.uploads().length).toBe(before + 2);
    const masked = await open().images.edit({
      model: 'sdxl',
      image: files,
      mask: await toFile(await makePicture({ width: 256, height: 256, colour: [255, 255, 255] }), 'mask.png'),
      prompt: 'a hole',
    });
    expect(await probe(fromBase64(masked.data![0]!.b64_json!))).toMatchObject({ width: 256, height: 256 });
  });

  it('openai: images.generate, streamed with partial images', async () => {
    const stream = await open().images.generate({
      model: 'sdxl',
      prompt: 'a lighthouse',
      size: '256x256' as '1024x1024',
      stream: true,
      partial_images: 2,
    });
    const types: string[] = [];
    for await (const event of stream) {
      types.push(event.type);
      expect((await probe(fromBase64(event.b64_json))).type).toMatch(/^image\//);
    }
    expect(types.at(-1)).toBe('image_generation.completed');
    expect(types.filter((type) => type === 'image_generation.completed')).toHaveLength(1);
    expect(types.length).toBeGreaterThan(1);
    expect(types.length).toBeLessThanOrEqual(3);
  });

  it('openai: videos, from the request to the bytes', async () => {
    const client = open();
    const { id, status } = await client.videos.create({
      model: 'animatediff',
      prompt: 'waves',
      seconds: '4',
      // The model makes sides of 1024 at most: what SDKs can ask for is brought to the nearest of the same shape.
      size: '720x1280',
    });
    expect(['queued', 'in_progress']).toContain(status);
    await eventually(async () => expect((await client.videos.retrieve(id)).status).toBe('completed'), 20_000);
    const content = await client.videos.downloadContent(id);
    const film = await probe(new Uint8Array(await content.arrayBuffer()));
    expect(film).toMatchObject({ type: 'video/mp4', width: 576, height: 1024 });
    expect(film.duration_s).toBeCloseTo(4, 0);
    expect((await client.videos.delete(id)).deleted).toBe(true);
    await expect(client.videos.retrieve(id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });

  it('openai: a model that cannot is a 501 that names those that can', async () => {
    const asked = open().images.generate({ model: 'ace-step-1.5', prompt: 'a fox' });
    await expect(asked).rejects.toMatchObject({ status: 501, code: 'not_supported' });
  });
}
