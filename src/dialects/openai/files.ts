// OpenAI files ⇄ artifacts: what was uploaded for a purpose, and what batches gave.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import type { ArtifactRecord, ArtifactValue, Artifacts } from '../../artifacts.ts';
import { toAddition } from '../../artifacts/record.ts';
import { GatewayError } from '../../error.ts';
import { toInput } from '../../http/body.ts';
import { respondContent } from '../../http/content.ts';
import { clientSignal, type AppContext, type AppEnv } from '../../http/context.ts';
import { readForm } from '../../http/multipart.ts';
import { describeRoute } from '../../http/openapi.ts';
import { respondJson } from '../../http/respond.ts';
import type { Put } from '../../store.ts';
import { listOf, listQuery, toPage } from './list.ts';

const uploadPurposes = ['assistants', 'batch', 'fine-tune', 'vision', 'user_data', 'evals'] as const;
/** Of what the gateway writes itself. */
export const BATCH_OUTPUT = 'batch_output';
const purposes = [...uploadPurposes, BATCH_OUTPUT] as const;

export const fileObject = z.object({
  id: z.string(),
  object: z.literal('file'),
  bytes: z.int(),
  created_at: z.int().describe('Seconds since 1970.'),
  expires_at: z.int().nullable().describe('It is deleted then unless somebody reads it before.'),
  filename: z.string(),
  purpose: z.enum(purposes),
  status: z.literal('processed'),
  status_details: z.null(),
});

const fileDeleted = z.object({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) });

const uploadFields = z.object({ purpose: z.enum(uploadPurposes) });
const filesQuery = listQuery.extend({
  limit: z.coerce.number().int().min(1).max(10_000).default(10_000),
  order: z.enum(['asc', 'desc']).default('desc'),
  purpose: z.enum(purposes).optional(),
});

const ID = /^file-([0-9a-f]{32})$/;
const READ_AT_ONCE = 100;

export function serveFiles(app: OpenAPIHono<AppEnv>): void {
  const tag = 'openai';
  describeRoute(app, {
    method: 'post',
    path: '/v1/files',
    tag,
    summary: 'Upload a file',
    description:
      'multipart/form-data with `file` and `purpose`. `expires_after` is taken and not heeded: a file stays until it was not read for HONO_AI_ARTIFACT_KEEP_MS.',
    output: fileObject,
  });
  app.post('/v1/files', upload);
  describeRoute(app, {
    method: 'get',
    path: '/v1/files',
    tag,
    summary: 'Your files',
    query: filesQuery,
    output: listOf(fileObject),
  });
  app.get('/v1/files', async (c) => {
    const { purpose, ...page } = toInput(filesQuery, c.req.query());
    const found = newest(c.var.app.artifacts, c.var.caller, purpose === undefined ? purposes : [purpose]);
    return respondJson(c, await toPage(found, page));
  });
  const path = '/v1/files/{id}';
  describeRoute(app, { method: 'get', path, tag, summary: 'One file', output: fileObject });
  app.get('/v1/files/:id', async (c) => respondJson(c, toFileObject(await findFile(c, c.req.param('id')))));
  describeRoute(app, {
    method: 'get',
    path: '/v1/files/{id}/content',
    tag,
    summary: 'The bytes of a file',
    output: z.string(),
  });
  app.get('/v1/files/:id/content', async (c) => content(c, await findFile(c, c.req.param('id'))));
  describeRoute(app, { method: 'delete', path, tag, summary: 'Delete a file', output: fileDeleted });
  app.delete('/v1/files/:id', async (c) => {
    const { id } = await findFile(c, c.req.param('id'));
    await c.var.app.artifacts.remove(c.var.caller, id);
    return respondJson(c, { id: toFileId(id), object: 'file', deleted: true });
  });
}

/** Nothing of it is to be seen before the whole form was read and found right. */
async function upload(c: AppContext): Promise<Response> {
  const { artifacts, store, config } = c.var.app;
  const owner = c.var.caller;
  const { fields, files } = await readForm(c, {
    fileLimit: config.max_upload,
    onFile: ({ name, filename, mediaType, bytes }) => {
      if (name !== 'file')
        throw new GatewayError('invalid_request', `${name}: only "file" is a file here.`, { param: name });
      const made = { name: filename, bytes, ...(mediaType === undefined ? {} : { media_type: mediaType }) };
      return artifacts.stage([made], { owner, signal: clientSignal(c) });
    },
  });
  const { purpose } = toInput(uploadFields, { purpose: fields.get('purpose')?.[0] });
  const [staged] = files;
  if (!staged) throw new GatewayError('invalid_request', 'file: there is none in the form.', { param: 'file' });
  const { artifacts: made, puts } = staged.value;
  await store.documents.put(withPurpose(puts, purpose));
  return respondJson(c, toFileObject(await artifacts.get(owner, made[0]!.id)));
}

function content(c: AppContext, record: ArtifactRecord): Promise<Response> {
  const { name, size, hash } = record.value;
  return respondContent(c, {
    name,
    mediaType: 'application/octet-stream',
    size,
    etag: `"sha256-${hash}"`,
    headers: {},
    open: (range) => c.var.app.artifacts.open(record, range),
  });
}

/** Throws not_found, the same for what is not there, what is another's, and what is no file in OpenAI's sense; expired. */
export async function findFile(c: AppContext, id: string): Promise<ArtifactRecord> {
  const hex = ID.exec(id)?.[1];
  const record =
    hex === undefined ? undefined : await c.var.app.artifacts.get(c.var.caller, `art_${hex}`).catch(unlessMissing);
  if (record?.value.purpose === undefined) throw new GatewayError('not_found', 'There is no such file.');
  return record;
}

export function toFileId(artifactId: string): string {
  return artifactId.replace(/^art_/, 'file-');
}

/** The same documents, of artifacts that have a purpose: that makes them files. */
export function withPurpose(puts: Put[], purpose: string): Put[] {
  return puts.flatMap((put) => {
    if (put.kind !== 'artifact' || 'delete' in put) return [];
    return toAddition(put.id, put.owner, { ...(put.value as ArtifactValue), purpose }, put.due!);
  });
}

function toFileObject({ id, value, createdAt, due }: ArtifactRecord): z.output<typeof fileObject> {
  return {
    id: toFileId(id),
    object: 'file',
    bytes: value.size,
    created_at: Math.floor(createdAt / 1000),
    expires_at: due === undefined ? null : Math.floor(due / 1000),
    filename: value.name,
    purpose: value.purpose as (typeof purposes)[number],
    status: 'processed',
    status_details: null,
  };
}

/** Newest first, of several purposes, each of which is a list of its own. */
async function* newest(artifacts: Artifacts, owner: string, wanted: readonly string[]) {
  const lists = wanted.map((purpose) => ofPurpose(artifacts, owner, purpose));
  const heads = await Promise.all(lists.map((list) => list.next()));
  for (;;) {
    let latest = -1;
    for (const [index, { done, value }] of heads.entries()) {
      if (!done && (latest < 0 || value.createdAt > heads[latest]!.value!.createdAt)) latest = index;
    }
    if (latest < 0) return;
    yield toFileObject(heads[latest]!.value!);
    heads[latest] = await lists[latest]!.next();
  }
}

async function* ofPurpose(
  artifacts: Artifacts,
  owner: string,
  purpose: string,
): AsyncGenerator<ArtifactRecord, undefined> {
  let cursor: string | undefined;
  do {
    const page = await artifacts.list(owner, { purpose, cursor, limit: READ_AT_ONCE });
    yield* page.records;
    cursor = page.next;
  } while (cursor !== undefined);
}

function unlessMissing(error: unknown): undefined {
  if (!(error instanceof GatewayError && error.code === 'not_found')) throw error;
}
