// The native model list, when a configured default is not there.
import { expect, it } from 'vitest';
import { openInProcess } from '../support/gateway.ts';

it('lists models and the defaults that work, whatever the configuration names', async () => {
  const gateway = await openInProcess({ env: { HONO_AI_DEFAULT_TEXT_CHAT: 'not-there' } });
  try {
    const response = await gateway.request('/models');
    expect(response.status).toBe(200);
    const { models, defaults } = (await response.json()) as {
      models: { id: string }[];
      defaults: Record<string, string>;
    };
    expect(models.map(({ id }) => id)).toContain('tiny-story');
    expect(defaults).toMatchObject({ 'text.generate': 'tiny-story', 'text.embed': 'tiny-embed' });
    expect(defaults).not.toHaveProperty(['text.chat']);
    const missing = await gateway.request('/text/chat', {
      method: 'POST',
      body: '{"messages":[{"role":"user","content":"x"}]}',
    });
    expect(missing.status).toBe(404);
    expect(await missing.text()).toContain('configured as the default of text.chat');
  } finally {
    await gateway.close();
  }
});
