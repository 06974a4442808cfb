// An S3 storage for tests: one path-style bucket in memory, signatures checked for real, and faults on demand.
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const s3Account = { accessKey: 'test-access-key', secretKey: 'test-secret-key', region: 'auto' };

/** What goes wrong with a request, as far as it is asked for. */
export type S3Fault =
  | { status: number; code: string }
  /** No answer for so many milliseconds. */
  | { slow: number }
  /** Says yes and keeps nothing. */
  | 'lose'
  /** Breaks off in the middle of the answer. */
  | 'cut'
  /** Closes the connection without an answer. */
  | 'hang up';

export interface S3Request {
  method: string;
  key: string;
  query: URLSearchParams;
}

export interface FakeS3 {
  url: string;
  objects: Map<string, { bytes: Buffer; modifiedAt: number }>;
  /** Multipart uploads that are open: id → key and parts. */
  uploads: Map<string, { key: string; parts: Map<number, Buffer>; begunAt: number }>;
  /** Every request that was signed rightly, in order. */
  seen: S3Request[];
  /** Asked for every request; undefined lets it pass. */
  fault: (request: S3Request) => S3Fault | undefined;
  close(): Promise<void>;
}

export async function openFakeS3(account = s3Account): Promise<FakeS3> {
  const server = createServer((request, response) => {
    handle(fake, account, request, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const fake: FakeS3 = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/bucket`,
    objects: new Map(),
    uploads: new Map(),
    seen: [],
    fault: () => undefined,
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
  return fake;
}

async function handle(
  fake: FakeS3,
  account: typeof s3Account,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url!, 'http://fake');
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  const body = Buffer.concat(pieces);
  if (!isSigned(request, url, account)) return refuse(response, 403, 'SignatureDoesNotMatch');
  const [, bucket, ...rest] = url.pathname.split('/');
  if (bucket !== 'bucket') return refuse(response, 404, 'NoSuchBucket');
  const asked: S3Request = {
    method: request.method!,
    key: decodeURIComponent(rest.join('/')),
    query: url.searchParams,
  };
  fake.seen.push(asked);
  const fault = fake.fault(asked);
  if (typeof fault === 'object') {
    if ('status' in fault) return refuse(response, fault.status, fault.code);
    await new Promise((resolve) => setTimeout(resolve, fault.slow).unref());
  }
  if (fault === 'hang up') return void response.destroy();
  if (asked.key === '')
    return asked.query.has('uploads') ? listUploads(fake, response) : list(fake, asked.query, response);
  if (asked.query.has('uploads') || asked.query.has('uploadId')) return parted(fake, asked, body, response, fault);
  single(fake, asked, body, request, response, fault);
}

function single(
  { objects }: FakeS3,
  { method, key }: S3Request,
  body: Buffer,
  request: IncomingMessage,
  response: ServerResponse,
  fault: S3Fault | undefined,
): void {
  if (method === 'PUT') {
    if (fault !== 'lose') objects.set(key, { bytes: body, modifiedAt: Date.now() });
    return void response.writeHead(200, { etag: toTag(body) }).end();
  }
  if (method === 'DELETE') {
    objects.delete(key);
    return void response.writeHead(204).end();
  }
  const object = objects.get(key);
  if (!object) return refuse(response, 404, 'NoSuchKey', method);
  const { bytes, modifiedAt } = object;
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]) + 1, bytes.length) : bytes.length;
  if (range && start >= bytes.length) return refuse(response, 416, 'InvalidRange');
  const part = bytes.subarray(start, end);
  response.writeHead(range ? 206 : 200, {
    etag: toTag(bytes),
    'content-length': part.length,
    'last-modified': new Date(modifiedAt).toUTCString(),
    ...(range ? { 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` } : {}),
  });
  if (method === 'HEAD') return void response.end();
  if (fault !== 'cut') return void response.end(part);
  response.write(part.subarray(0, part.length / 2), () => response.destroy());
}

function parted(
  { objects, uploads }: FakeS3,
  { method, key, query }: S3Request,
  body: Buffer,
  response: ServerResponse,
  fault: S3Fault | undefined,
): void {
  if (method === 'POST' && query.has('uploads')) {
    const id = `upload-${uploads.size}-${Math.random()}`;
    uploads.set(id, { key, parts: new Map(), begunAt: Date.now() });
    return xml(response, `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
  }
  const id = query.get('uploadId')!;
  const open = uploads.get(id);
  if (open?.key !== key) return refuse(response, 404, 'NoSuchUpload');
  if (method === 'PUT') {
    open.parts.set(Number(query.get('partNumber')), body);
    return void response.writeHead(200, { etag: toTag(body) }).end();
  }
  uploads.delete(id);
  if (method === 'DELETE') return void response.writeHead(204).end();
  const told = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber><ETag>"?([^<"]+)"?<\/ETag>/g)];
  const parts = told.map(([, number, tag]) => ({ bytes: open.parts.get(Number(number)), tag }));
  if (parts.some(({ bytes, tag }) => !bytes || toTag(bytes) !== `"${tag}"`))
    return refuse(response, 400, 'InvalidPart');
  if (parts.slice(0, -1).some(({ bytes }) => bytes!.length < 5 * 1024 * 1024))
    return refuse(response, 400, 'EntityTooSmall');
  const whole = Buffer.concat(parts.map(({ bytes }) => bytes!));
  if (fault !== 'lose') objects.set(key, { bytes: whole, modifiedAt: Date.now() });
  xml(response, `<CompleteMultipartUploadResult><ETag>${toTag(whole)}</ETag></CompleteMultipartUploadResult>`);
}

function list({ objects }: FakeS3, query: URLSearchParams, response: ServerResponse): void {
  const after = query.get('continuation-token') ?? '';
  const most = Math.min(Number(query.get('max-keys') ?? 1000), 2);
  const keys = [...objects.keys()].toSorted().filter((key) => key.startsWith(query.get('prefix') ?? '') && key > after);
  const page = keys.slice(0, most);
  const contents = page.map((key) => {
    const { bytes, modifiedAt } = objects.get(key)!;
    return `<Contents><Key>${key}</Key><Size>${bytes.length}</Size><LastModified>${new Date(modifiedAt).toISOString()}</LastModified></Contents>`;
  });
  const more = keys.length > most;
  const next = more ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : '';
  xml(response, `<ListBucketResult><IsTruncated>${more}</IsTruncated>${next}${contents.join('')}</ListBucketResult>`);
}

function listUploads({ uploads }: FakeS3, response: ServerResponse): void {
  const told = [...uploads].map(
    ([id, { key, begunAt }]) =>
      `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${new Date(begunAt).toISOString()}</Initiated></Upload>`,
  );
  xml(response, `<ListMultipartUploadsResult>${told.join('')}</ListMultipartUploadsResult>`);
}

/** AWS Signature Version 4 of the request, computed from what arrived. */
function isSigned(request: IncomingMessage, url: URL, { accessKey, secretKey, region }: typeof s3Account): boolean {
  const told =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      request.headers.authorization ?? '',
    );
  const time = request.headers['x-amz-date'];
  if (!told || typeof time !== 'string') return false;
  const [, key, day, place, names, signature] = told as unknown as string[];
  if (key !== accessKey || place !== region || !names!.split(';').includes('host')) return false;
  const encode = (text: string) =>
    encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const query = [...url.searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .toSorted()
    .join('&');
  const headers = names!.split(';').map((name) => `${name}:${String(request.headers[name] ?? '').trim()}\n`);
  const payload = request.headers['x-amz-content-sha256'];
  const canonical = [request.method, url.pathname, query, headers.join(''), names, payload].join('\n');
  const scope = `${day}/${place}/s3/aws4_request`;
  const hashed = createHash('sha256').update(canonical).digest('hex');
  const hmac = (secret: string | Buffer, text: string) => createHmac('sha256', secret).update(text).digest();
  const signing = [place!, 's3', 'aws4_request'].reduce(hmac, hmac(`AWS4${secretKey}`, day!));
  const expected = hmac(signing, ['AWS4-HMAC-SHA256', time, scope, hashed].join('\n'));
  return timingSafeEqual(expected, Buffer.from(signature!, 'hex'));
}

function toTag(bytes: Buffer): string {
  return `"${createHash('md5').update(bytes).digest('hex')}"`;
}

function xml(response: ServerResponse, text: string): void {
  response.writeHead(200, { 'content-type': 'application/xml' }).end(`<?xml version="1.0" encoding="UTF-8"?>\n${text}`);
}

function refuse(response: ServerResponse, status: number, code: string, method?: string): void {
  response.writeHead(status, { 'content-type': 'application/xml' });
  response.end(method === 'HEAD' ? undefined : `<Error><Code>${code}</Code><Message>${code}</Message></Error>`);
}
