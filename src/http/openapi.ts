// Routes → OpenAPI 3.1, from the schemas that check the requests.
import type { OpenAPIHono } from '@hono/zod-openapi';
import type { z } from 'zod';
import type { AppEnv } from './context.ts';

export interface RouteDescription {
  method: 'get' | 'post';
  path: string;
  tag: string;
  summary: string;
  description?: string;
  input?: z.ZodType;
  output: z.ZodType;
  /** Answers server-sent events where the caller asks for them. */
  streams?: boolean;
  /** Needs no key. */
  public?: boolean;
}

/** Registers a route with the document; the handler is the caller's. */
export function describeRoute(app: OpenAPIHono<AppEnv>, route: RouteDescription): void {
  app.openAPIRegistry.registerPath({
    method: route.method,
    path: route.path,
    tags: [route.tag],
    summary: route.summary,
    ...(route.description ? { description: route.description } : {}),
    ...(route.public ? { security: [] } : {}),
    ...(route.input
      ? { request: { body: { required: true, content: { 'application/json': { schema: route.input as never } } } } }
      : {}),
    responses: {
      200: {
        description: 'Done.',
        content: {
          'application/json': { schema: route.output as never },
          ...(route.streams ? { 'text/event-stream': { schema: { type: 'string' as const } } } : {}),
        },
      },
      default: {
        description: 'What went wrong, and what to do.',
        content: { 'application/json': { schema: ERROR_SCHEMA } },
      },
    },
  });
}

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
