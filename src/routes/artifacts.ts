// Files: what runs made and callers brought; list, look, download, upload, forget.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import type { ArtifactRecord, Artifacts } from '../artifacts.ts';
import { fromDisposition } from '../artifacts/names.ts';
import { artifactView } from '../capabilities/file.ts';
import { GatewayError } from '../error.ts';
import { toInput } from '../http/body.ts';
import { clientSignal, type AppContext, type AppEnv } from '../http/context.ts';
import { respondContent } from '../http/content.ts';
import { isSigned, toQuery } from '../http/links.ts';
import { describeRoute } from '../http/openapi.ts';
import { respondJson } from '../http/respond.ts';
import { readSteadily } from '../http/upload.ts';

const artifact = artifactView.omit({ b64_json: true }).extend({
  object: z.literal('artifact'),
  created_at: z.string(),
  kept_until: z.string().describe('When it is deleted if nobody downloads it until then.'),
  job: z.string().nullable(),
  index: z.int().nullable().describe('Its place among the files of the job.'),
  purpose: z.string().nullable(),
});
const detailed = artifact.extend({
  made: z
    .record(z.string(), z.unknown())
    .nullable()
    .describe('How it was made: capability, model, runtime, prompt, seed, workflow.'),
});
const page = z.object({
  object: z.literal('list'),
  data: z.array(artifact),
  has_more: z.boolean(),
  next_cursor: z.string().nullable(),
});
const deleted = z.object({ id: z.string(), object: z.literal('artifact'), deleted: z.literal(true) });

const purpose = z.string().regex(/^[a-z0-9_-]{1,32}$/, 'up to 32 small letters, digits, - and _');
const listQuery = z.object({
  job: z.string().max(64).optional().describe('Only those of this job.'),
  purpose: purpose.optional(),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  cursor: z.string().max(512).optional().describe('next_cursor of the page before.'),
});
const uploadQuery = z.object({
  name: z.string().max(4096).optional().describe('What it is called; Content-Disposition says it as well.'),
  purpose: purpose.optional(),
});

/** Seconds that an answer may be used again without asking. */
const MAX_AGE_S = 3600;

export interface ArtifactRouteOptions {
  /** Milliseconds after which an upload must not have been slower than 1 KiB/s. */
  slowMs?: number;
}

export function serveArtifacts(
  app: OpenAPIHono<AppEnv>,
  artifacts: Artifacts,
  { slowMs = 15_000 }: ArtifactRouteOptions = {},
): void {
  describeArtifacts(app);
  app.get('/artifacts', async (c) => {
    const { limit, ...query } = toInput(listQuery, c.req.query());
    const { records, next } = await artifacts.list(c.var.caller, { limit, ...query });
    const data = await Promise.all(records.map((record) => toView(artifacts, record)));
    const answer = { object: 'list' as const, data, has_more: next !== undefined, next_cursor: next ?? null };
    return respondJson(c, answer satisfies z.output<typeof page>);
  });
  app.post('/artifacts', async (c) => {
    const record = await upload(c, artifacts, slowMs);
    const view = await toDetails(artifacts, record);
    return respondJson(c, view, { status: 201, headers: { location: `/artifacts/${record.id}` } });
  });
  app.get('/artifacts/:id', async (c) => {
    const record = await artifacts.get(c.var.caller, c.req.param('id'));
    return respondJson(c, await toDetails(artifacts, record));
  });
  app.delete('/artifacts/:id', async (c) => {
    const id = c.req.param('id');
    await artifacts.remove(c.var.caller, id);
    return respondJson(c, { id, object: 'artifact', deleted: true } satisfies z.output<typeof deleted>);
  });
  app.delete('/artifacts/:id/made', async (c) => {
    const record = await artifacts.strip(c.var.caller, c.req.param('id'));
    return respondJson(c, await toDetails(artifacts, record));
  });
  app.get('/artifacts/:id/content', async (c) => content(c, artifacts));
  app.on(['POST', 'PUT', 'PATCH', 'DELETE'], '/artifacts/:id/content', (c) => {
    c.var.headers['allow'] = 'GET, HEAD';
    if (!isSigned(c.req.path, toQuery(c.req.url)))
      throw new GatewayError('method_not_allowed', 'This path takes GET, HEAD.');
    throw new GatewayError('invalid_signature', 'A link opens a file, nothing more.');
  });
}

async function content(c: AppContext, artifacts: Artifacts): Promise<Response> {
  const id = c.req.param('id')!;
  const query = toQuery(c.req.url);
  const signed = isSigned(c.req.path, query);
  // The guard asked a signed request for no key: whoever sends it is nobody until the signature is right.
  const { record, until } = signed
    ? await artifacts.getSigned(id, query)
    : { record: await artifacts.get(c.var.caller, id), until: Infinity };
  const age = Math.min(MAX_AGE_S, Math.floor((until - c.var.app.now()) / 1000));
  const { name, media_type, size, hash } = record.value;
  return respondContent(c, {
    name,
    mediaType: media_type,
    size,
    etag: `"sha256-${hash}"`,
    headers: {
      'cache-control': `private, max-age=${Math.max(0, age)}, immutable`,
      // A link is made to be shown elsewhere; what the key opens is not.
      'cross-origin-resource-policy': signed ? 'cross-origin' : 'same-origin',
    },
    open: (range) => artifacts.open(record, range),
  });
}

async function upload(c: AppContext, artifacts: Artifacts, slowMs: number): Promise<ArtifactRecord> {
  const { name, purpose: wanted } = toInput(uploadQuery, c.req.query());
  const mediaType = c.req.header('content-type');
  if (mediaType?.toLowerCase().startsWith('multipart/')) {
    throw new GatewayError('unsupported_media_type', 'A form is not a file.', {
      hint: "Send the file's bytes as the body: curl --data-binary @FILE.",
    });
  }
  const announced = toLength(c.req.header('content-length'));
  const limit = artifacts.maxUpload;
  try {
    if (announced !== undefined && announced > limit) throw tooLarge(limit);
    return await artifacts.save(readSteadily(c.req.raw.body, slowMs), {
      owner: c.var.caller,
      name: name ?? fromDisposition(c.req.header('content-disposition')),
      purpose: wanted,
      mediaType,
      announced,
      signal: clientSignal(c),
    });
  } catch (error) {
    // What is left of the body is not read: the connection cannot be used again.
    c.var.headers['connection'] = 'close';
    throw error;
  }
}

async function toView(artifacts: Artifacts, record: ArtifactRecord): Promise<z.output<typeof artifact>> {
  const { job, index, purpose: wanted, created_at } = record.value;
  return {
    ...(await artifacts.view(record)),
    object: 'artifact',
    created_at,
    kept_until: new Date(record.due ?? 0).toISOString(),
    job: job ?? null,
    index: index ?? null,
    purpose: wanted ?? null,
  };
}

async function toDetails(artifacts: Artifacts, record: ArtifactRecord): Promise<z.output<typeof detailed>> {
  return { ...(await toView(artifacts, record)), made: record.value.made ?? null };
}

function toLength(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

function tooLarge(limit: number): GatewayError {
  return new GatewayError('body_too_large', `The file is larger than ${limit} bytes.`, {
    hint: 'Send less, or raise HONO_AI_MAX_UPLOAD.',
  });
}

function describeArtifacts(app: OpenAPIHono<AppEnv>): void {
  const tag = 'artifacts';
  const path = '/artifacts/{id}';
  describeRoute(app, {
    method: 'get',
    path: '/artifacts',
    tag,
    summary: 'Your files, newest first',
    query: listQuery,
    output: page,
  });
  describeRoute(app, {
    method: 'post',
    path: '/artifacts',
    tag,
    summary: 'Upload a file: its bytes are the body',
    description: 'It is kept as it is; what it is called and what it is said to be is not believed.',
    query: uploadQuery,
    output: detailed,
    status: 201,
  });
  describeRoute(app, {
    method: 'get',
    path,
    tag,
    summary: 'One file: what it is, how it was made, and a fresh link',
    output: detailed,
  });
  describeRoute(app, { method: 'delete', path, tag, summary: 'Delete a file', output: deleted });
  describeRoute(app, {
    method: 'delete',
    path: `${path}/made`,
    tag,
    summary: 'Forget how a file was made, also where that is written into the picture',
    output: detailed,
  });
  app.openAPIRegistry.registerPath({
    method: 'get',
    path: `${path}/content`,
    tags: [tag],
    summary: 'The bytes of a file, or a range of them',
    description:
      'Needs the key of its owner, or the signature of a link. Takes Range, If-Range and If-None-Match; HEAD as well.',
    request: { params: z.object({ id: z.string() }) as never },
    responses: {
      200: { description: 'All of it.', content: { '*/*': { schema: { type: 'string', format: 'binary' } } } },
      206: { description: 'The range.', content: { '*/*': { schema: { type: 'string', format: 'binary' } } } },
      304: { description: 'You have it already.' },
      default: {
        description: 'What went wrong, and what to do.',
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    },
  });
}
