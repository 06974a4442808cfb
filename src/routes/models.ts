// The native model list.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import type { CapabilityId } from '../capabilities/index.ts';
import { modelCard, toModelCard } from '../dialects/openai/models.ts';
import type { AppEnv } from '../http/context.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';

const list = z.object({
  models: z.array(modelCard),
  defaults: z
    .record(z.string(), z.string())
    .describe('Capability → the model that answers where none is named, as things stand now.'),
  aliases: z.record(z.string(), z.string()),
});

export function serveModels(app: OpenAPIHono<AppEnv>): void {
  describeRoute(app, {
    method: 'get',
    path: '/models',
    tag: 'models',
    summary: 'Every model, the defaults and the aliases',
    output: list,
  });
  app.get('/models', async (c) => {
    const { gateway, config } = c.var.app;
    const models = (await gateway.catalog.list()).map(toModelCard);
    const defaults: Record<string, string> = {};
    for (const id of new Set(models.flatMap((model) => model.capabilities))) {
      // A default that is not there must not hide the models that are; asking for it says what is wrong.
      const find = async () => gateway.catalog.resolve(id as CapabilityId, undefined);
      const [route] = await find().catch(() => []);
      if (route) defaults[id] = route.model.id;
    }
    return respondJson(c, { models, defaults, aliases: config.aliases });
  });
}
