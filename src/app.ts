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
import { serveDoctor } from './routes/doctor.ts';
import { serveEvents } from './routes/events.ts';
import { serveGpu } from './routes/gpu.ts';
import { serveHardware } from './routes/hardware.ts';
import { serveJobs } from './routes/jobs.ts';
import { serveModelSearch } from './routes/model-search.ts';
import { serveModels } from './routes/models.ts';
import { serveResidency } from './routes/residency.ts';
import { servePulls } from './routes/pulls.ts';
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
  servePulls(app);
  serveResidency(app);
  serveModelSearch(app);
  serveModels(app);
  serveWorkflows(app);
  serveSystem(app);
  serveHardware(app);
  serveGpu(app);
  serveDoctor(app);
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

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];

function unknownRoute(app: OpenAPIHono<AppEnv>, c: AppContext): GatewayError {
  const methods = METHODS.filter((method) =>
    app.router.match(method, c.req.path)[0].some(([[, route]]) => route.method === method),
  );
  if (methods.length === 0) {
    return new GatewayError('not_found', 'There is nothing at this path.', {
      hint: 'GET /openapi.json lists every route.',
    });
  }
  c.var.headers['allow'] = methods.join(', ');
  return new GatewayError('method_not_allowed', `This path takes ${c.var.headers['allow']}.`);
}

function fromHono(exception: HTTPException): GatewayError {
  const code = exception.status === 413 ? 'body_too_large' : exception.status < 500 ? 'invalid_request' : 'internal';
  return new GatewayError(code, exception.message || 'The request was refused.', { cause: exception });
}
