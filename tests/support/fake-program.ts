// What the fakes of programs with models to manage share: a server that can go down and come back, and slow answers in OpenAI's words.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { json, listen, parseJson, readBody, write } from './fake-http.ts';
import type { Answer } from './fake-http.ts';

export interface Asked {
  method: string;
  /** Decoded, without its query. */
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  body: Record<string, unknown>;
  /** Aborts when the client has left. */
  left: AbortSignal;
  response: ServerResponse;
}

export interface Program {
  /** With /v1. */
  url: string;
  /** `METHOD path` of all that was asked, oldest first. */
  requests: string[];
  count(request: string): number;
  down(): Promise<void>;
  /** On the same port; another program, where one is given. */
  up(respond?: Respond): Promise<void>;
  close(): Promise<void>;
}

/** Nothing, where it has written the answer itself. */
export type Respond = (asked: Asked) => Promise<Answer | undefined> | Answer | undefined;

export async function openProgram(respond: Respond): Promise<Program> {
  const requests: string[] = [];
  let current = respond;
  const handle = (request: IncomingMessage, response: ServerResponse) => {
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent || response.destroyed) response.destroy();
      else write(response, json({ error: { message: String(error), code: 500 } }, 500));
    });
  };
  async function answer(request: IncomingMessage, response: ServerResponse) {
    const url = new URL(request.url ?? '/', 'http://fake');
    const path = decodeURIComponent(url.pathname);
    const { method = 'GET', headers } = request;
    requests.push(`${method} ${path}`);
    const left = new AbortController();
    response.once('close', () => {
      if (!response.writableFinished) left.abort();
    });
    const bytes = (await readBody(request))!;
    const body = (parseJson(bytes) ?? {}) as Record<string, unknown>;
    const said = await current({
      method,
      path,
      query: url.searchParams,
      headers,
      body,
      left: left.signal,
      response,
    });
    if (said && !response.destroyed) write(response, said, method === 'HEAD');
  }
  let server = await listen(handle);
  const { port } = server;
  let open = true;
  const down = async () => {
    if (open) await server.stop();
    open = false;
  };
  return {
    url: `http://127.0.0.1:${port}/v1`,
    requests,
    count: (request) => requests.filter((each) => each === request).length,
    down,
    async up(next) {
      if (next) current = next;
      server = await listen(handle, port);
      open = true;
    },
    close: down,
  };
}

export const list = (data: object[]): Answer => json({ object: 'list', data });

export function error(status: number, message: string): Answer {
  return json({ error: { code: status, message, type: 'invalid_request_error' } }, status);
}

/** An answer of so many words, one each few milliseconds; false where it was cut by the client or by `cut`. */
export async function streamWords(
  { response, left, body }: Pick<Asked, 'response' | 'left' | 'body'>,
  { words = 20, ms = 30, cut = () => false }: { words?: number; ms?: number; cut?: () => boolean } = {},
): Promise<boolean> {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const event = (delta: object, finish: string | null) =>
    response.write(
      `data: ${JSON.stringify({
        id: 'chatcmpl-1',
        object: 'chat.completion.chunk',
        model: body['model'],
        choices: [{ index: 0, delta, finish_reason: finish }],
      })}\n\n`,
    );
  for (let at = 0; at < words; at++) {
    if (left.aborted) return false;
    if (cut()) {
      response.destroy();
      return false;
    }
    event({ content: `word${at} ` }, null);
    await pause(ms);
  }
  event({}, 'stop');
  response.end('data: [DONE]\n\n');
  return true;
}
