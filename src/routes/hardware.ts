// The machine as it stands: its cards, its processor and memory, and what can be asked of it.
import type { OpenAPIHono } from '@hono/zod-openapi';
import type { z } from 'zod';
import { chosenCard, hardwareView, offeredView } from '../hardware.ts';
import { toOffered } from '../hardware/offered.ts';
import type { AppEnv } from '../http/context.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';

const TAG = 'system';

export function serveHardware(app: OpenAPIHono<AppEnv>): void {
  describeRoute(app, {
    method: 'get',
    path: '/system/hardware',
    tag: TAG,
    summary: 'Cards, processor and main memory',
    output: hardwareView,
  });
  app.get('/system/hardware', async (c) => {
    const reading = await c.var.app.hardware.read();
    const { machine, cards, problems, why } = reading;
    return respondJson(c, {
      ...machine,
      cards,
      why: chosenCard(reading) ? null : (why ?? problems[0] ?? null),
      problems,
    } satisfies z.output<typeof hardwareView>);
  });

  describeRoute(app, {
    method: 'get',
    path: '/system/capabilities',
    tag: TAG,
    summary: 'What can be asked here, by which model, and why not',
    output: offeredView,
  });
  app.get('/system/capabilities', async (c) => {
    const offered = await toOffered(c.var.app.gateway.catalog);
    return respondJson(c, { capabilities: offered } satisfies z.output<typeof offeredView>);
  });
}
