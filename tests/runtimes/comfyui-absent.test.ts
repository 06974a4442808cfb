// Where there is no ComfyUI: what it would have is known by name, and whoever asks is told what to start.
import { describe, expect, it } from 'vitest';
import { createDownloads } from '../../adapters/downloads/index.ts';
import { createAbsentComfyUI } from '../../adapters/runtimes/comfyui/absent.ts';
import { openInProcess } from '../support/gateway.ts';

const downloads = createDownloads({ tokens: {}, trusted: [], allow: [], stallMs: 1000, tries: 1 });
const absent = createAbsentComfyUI({ downloads, hubUrl: 'https://huggingface.co' });
const signal = () => AbortSignal.timeout(5000);

describe('ComfyUI that is not here', () => {
  it('claims what is its own by name or kind, and leaves what may be somebody else’s', () => {
    expect(absent.claims({ model: 'sdxl' })).toBe(100);
    expect(absent.claims({ model: 'x', source: 'https://example.com/x.safetensors', kind: 'lora' })).toBe(80);
    expect(absent.claims({ model: 'qwen3:8b' })).toBeUndefined();
    expect(absent.claims({ model: 'x', source: 'hf:org/repo' })).toBeUndefined();
    expect(absent.claims({ model: 'x', source: 'https://example.com/x.gguf' })).toBeUndefined();
  });

  it('is found by a search, and says what it needs', async () => {
    expect(await absent.search!('sdxl', signal())).toContainEqual(
      expect.objectContaining({ model: 'sdxl', title: 'SDXL (needs ComfyUI)', present: false }),
    );
  });

  it('refuses with the one line that mends it, over HTTP as well', { timeout: 60_000 }, async () => {
    await expect(absent.plan({ model: 'sdxl' }, signal())).rejects.toMatchObject({
      code: 'not_supported',
      hint: expect.stringContaining('HONO_AI_COMFYUI_URL'),
    });
    const gateway = await openInProcess({});
    try {
      const pull = (body: object) =>
        gateway.request('/models/pull', {
          method: 'POST',
          headers: { prefer: 'wait=10' },
          body: JSON.stringify(body),
        });
      const recipe = await pull({ model: 'sdxl' });
      expect(recipe.status).toBe(501);
      expect(await recipe.json()).toMatchObject({ error: { hint: expect.stringContaining('HONO_AI_COMFYUI_URL') } });
      const voice = await pull({ model: 'whisper-small' });
      expect(voice.status).toBe(501);
      expect(await voice.json()).toMatchObject({ error: { hint: expect.stringContaining('HONO_AI_MODEL_DIRS') } });
      const wrong = await gateway.request('/v1/models/org/name:tag', { method: 'DELETE' });
      expect(wrong.status).toBe(405);
      expect(wrong.headers.get('allow')).toBe('GET');
      expect((await gateway.request('/no/such/path', { method: 'DELETE' })).status).toBe(404);
    } finally {
      await gateway.close();
    }
  });
});
