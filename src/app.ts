// The app: one fetch function that every host, the CLI and the tests call.
import { OpenAPIHono } from '@hono/zod-openapi';
import { HTTPException } from 'hono/http-exception';
import { capabilities } from './capabilities/index.ts';
import { serveOpenAI } from './dialects/openai/index.ts';
import { GatewayError, toGatewayError } from './error.ts';
import type { AppContext, AppEnv, AppOptions, HostBindings } from './http/context.ts';
import { guard } from './http/guard.ts';
import { describeComponents } from './http/openapi.ts';
import { respondError } from './http/respond.ts';
import { serveCapability } from './http/serve.ts';
import { serveArtifacts } from './routes/artifacts.ts';
import { serveDocs } from './routes/docs.ts';
import { serveEvents } from './routes/events.ts';
import { serveJobs } from './routes/jobs.ts';
import { serveModels } from './routes/models.ts';
import { serveSystem } from './routes/system.ts';
import { serveWebhooks } from './routes/webhooks.ts';
import { serveWorkflows } from './routes/workflows.ts';

export interface App {
  fetch(request: Request, bindings?: HostBindings): Response | Promise<Response>;
  /** Method and path of every route, for tests of the front door. */
  routes: { method: string; path: string }[];
}

export function createApp(options: AppOptions): App {
  const app = new OpenAPIHono<AppEnv>();
  app.use('*', guard(options));
  describeComponents(app);
  for (const capability of Object.values(capabilities)) serveCapability(app, capability as never);
  serveOpenAI(app);
  serveJobs(app);
  serveArtifacts(app, options.artifacts);
  serveWebhooks(app, options.webhooks);
  serveEvents(app, { realtime: options.realtime, ...(options.socketIo ? { socketIo: options.socketIo } : {}) });
  serveModels(app);
  serveWorkflows(app);
  serveSystem(app);
  serveDocs(app, options);
  app.notFound((c) => respondError(c, unknownRoute(app, c)));
  app.onError((error, c) => {
    const known = error instanceof HTTPException ? fromHono(error) : toGatewayError(error);
    if (known.code === 'internal')
      options.log({ level: 'error', message: 'unexpected', id: c.var.requestId, stack: error.stack });
    return respondError(c, known);
  });
  return { fetch: (request, bindings) => app.fetch(request, bindings ?? {}), routes: app.routes };
}

function unknownRoute(app: OpenAPIHono<AppEnv>, c: AppContext): GatewayError {
  const methods = app.routes
    .filter((route) => route.path === c.req.path && route.method !== 'ALL')
    .map((route) => route.method);
  if (methods.length === 0) {
    return new GatewayError('not_found', 'There is nothing at this path.', {
      hint: 'GET /openapi.json lists every route.',
    });
  }
  c.var.headers['allow'] = [...new Set(methods)].join(', ');
  return new GatewayError('method_not_allowed', `This path takes ${c.var.headers['allow']}.`);
}

function fromHono(exception: HTTPException): GatewayError {
  const code = exception.status === 413 ? 'body_too_large' : exception.status < 500 ? 'invalid_request' : 'internal';
  return new GatewayError(code, exception.message || 'The request was refused.', { cause: exception });
}
