// The doctor: what is wrong with the machine of this gateway, and mending what can be mended.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { checkupView } from '../doctor.ts';
import { readJson } from '../http/body.ts';
import { clientSignal, type AppEnv } from '../http/context.ts';
import { expectOwner } from '../http/guard.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';

const input = z.strictObject({
  fix: z.boolean().default(false).describe('Mend what can be mended without privileges and without asking.'),
});

export function serveDoctor(app: OpenAPIHono<AppEnv>): void {
  const about = { tag: 'system', path: '/system/doctor', output: checkupView };
  describeRoute(app, { ...about, method: 'get', summary: 'What is wrong here, and what mends it' });
  // Findings name folders and users of the machine.
  app.get('/system/doctor', async (c) => {
    expectOwner(c, 'have it examined');
    return respondJson(c, await c.var.app.doctor.examine({ fix: false, signal: clientSignal(c) }));
  });
  describeRoute(app, { ...about, method: 'post', summary: 'The same, and mend what can be mended', input });
  app.post('/system/doctor', async (c) => {
    expectOwner(c, 'have it examined');
    const { fix } = await readJson(c, input);
    return respondJson(c, await c.var.app.doctor.examine({ fix, signal: clientSignal(c) }));
  });
}
