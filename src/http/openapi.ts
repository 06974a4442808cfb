// Routes → OpenAPI 3.1, from the schemas that check the requests.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { fileFields } from '../capabilities/file.ts';
import { jobView } from '../jobs/view.ts';
import type { AppEnv } from './context.ts';

export interface RouteDescription {
  method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  path: string;
  tag: string;
  summary: string;
  description?: string;
  input?: z.ZodType;
  output: z.ZodType;
  /** Answers server-sent events where the caller asks for them. */
  streams?: boolean;
  /** Can be asked as a job: Prefer, Idempotency-Key, 202. */
  jobs?: boolean;
  /** The status of success; 200 if absent. */
  status?: 200 | 201 | 202 | 204;
  /** Fields of the query. */
  query?: z.ZodObject;
  /** Needs no key. */
  public?: boolean;
}

/** Registers a route with the document; the handler is the caller's. */
export function describeRoute(app: OpenAPIHono<AppEnv>, route: RouteDescription): void {
  const { input, query, output, status = 200 } = route;
  const params = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => [name!, z.string()] as const);
  const request = {
    ...(params.length > 0 ? { params: z.object(Object.fromEntries(params)) as never } : {}),
    ...(query ? { query: query as never } : {}),
    ...(route.jobs ? { headers: jobHeaders as never } : {}),
    ...(input ? { body: { required: true, content: toContent(input) } } : {}),
  };
  app.openAPIRegistry.registerPath({
    method: route.method,
    path: route.path,
    tags: [route.tag],
    summary: route.summary,
    ...(route.description ? { description: route.description } : {}),
    ...(route.public ? { security: [] } : {}),
    ...(Object.keys(request).length > 0 ? { request } : {}),
    responses: {
      [status]: {
        description: 'Done.',
        ...(status === 204
          ? {}
          : {
              content: {
                'application/json': { schema: output as never },
                ...(route.streams ? { 'text/event-stream': { schema: { type: 'string' as const } } } : {}),
              },
            }),
      },
      ...(route.jobs
        ? { 202: { description: 'Taken as a job.', content: { 'application/json': { schema: jobView as never } } } }
        : {}),
      default: {
        description: 'What went wrong, and what to do.',
        content: { 'application/json': { schema: ERROR_SCHEMA } },
      },
    },
  });
}

/** What brings files can be a form as well, with their bytes in it. */
function toContent(input: z.ZodType) {
  const json = { 'application/json': { schema: input as never } };
  const files = input instanceof z.ZodObject ? fileFields(input) : new Map<string, { many: boolean }>();
  if (!(input instanceof z.ZodObject) || files.size === 0) return json;
  const binary = z.string().meta({ format: 'binary' });
  const asFiles = [...files].map(([name, { many }]) => {
    const field = many ? z.array(binary) : binary;
    return [name, input.shape[name].safeParse(undefined).success ? field.optional() : field];
  });
  return { ...json, 'multipart/form-data': { schema: input.extend(Object.fromEntries(asFiles)) as never } };
}

const jobHeaders = z.object({
  prefer: z
    .string()
    .optional()
    .describe('respond-async: answer 202 with a job at once. wait=N: do so if it is not done within N seconds.'),
  'idempotency-key': z
    .string()
    .optional()
    .describe('The same request with the same key runs once; later ones get the first answer.'),
  'cache-control': z.string().optional().describe('no-cache: do not answer a job from what was made before.'),
});

const ERROR_SCHEMA = { $ref: '#/components/schemas/Error' };

export function describeDocument(app: OpenAPIHono<AppEnv>, version: string) {
  return app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'hono-ai',
      version,
      description: 'One front door for everything a home GPU can generate.',
      license: { name: 'MIT' },
    },
    security: [{ key: [] }],
  });
}

/** Components that every route refers to. */
export function describeComponents(app: OpenAPIHono<AppEnv>): void {
  const string = { type: 'string' as const };
  app.openAPIRegistry.registerComponent('securitySchemes', 'key', { type: 'http', scheme: 'bearer' });
  app.openAPIRegistry.registerComponent('schemas', 'Error', {
    type: 'object',
    required: ['error'],
    properties: {
      error: {
        type: 'object',
        required: ['message', 'type', 'code', 'request_id', 'source'],
        properties: {
          message: string,
          type: string,
          code: string,
          param: { type: ['string', 'null'] },
          request_id: string,
          source: { ...string, description: 'gateway, or the runtime that failed' },
          hint: { ...string, description: 'The remedy, where there is one' },
        },
      },
    },
  });
}
