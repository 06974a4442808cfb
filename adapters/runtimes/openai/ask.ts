// Requests to the server: as JSON or as a form, and sent again without what it refuses where an answer can do without that.
import type { Reply, Upstream } from '../../../src/upstream.ts';
import { toRefusal } from './failure.ts';
import { refusedKnobs } from './quirks.ts';
import type { Body } from './quirks.ts';

export interface FormFile {
  /** The field it is sent in. */
  field: string;
  name: string;
  type: string;
  bytes: Uint8Array<ArrayBuffer>;
}

export interface Request {
  path: string;
  body: Body;
  /** With them it is sent as a form. */
  files?: FormFile[];
  /** What could not be honoured; gets longer while the server refuses. */
  warnings: string[];
}

export interface Leeway {
  /** What the server may refuse: it is then asked without. */
  optional: readonly string[];
  /** What of that nobody misses, because the gateway makes up for it. */
  silent?: readonly string[];
}

export type Ask = (request: Request, leeway: Leeway, signal: AbortSignal) => Promise<Reply>;

/** How often a request is sent again without what the server refused in it. */
const MAX_CONCESSIONS = 3;

/** Servers differ in what they refuse, so it is they who say what has to be left out. Any answer but 200 throws. */
export function createAsk(upstream: Upstream): Ask {
  return async ({ path, body, files, warnings }, { optional, silent = [] }, signal) => {
    let fields = body;
    for (let left = MAX_CONCESSIONS; ; left--) {
      const content = files ? await toForm(fields, files) : { json: fields };
      const reply = await upstream.send(path, { ...content, signal });
      if (reply.status === 200) return reply;
      const error = await toRefusal(upstream, reply);
      const refused = error.code === 'invalid_request' && left > 0 ? refusedKnobs(fields, error.message, optional) : [];
      if (refused.length === 0) throw error;
      const missed = refused.filter((knob) => !silent.includes(knob));
      warnings.push(...missed.map((knob) => `${upstream.name} refuses ${knob}; it was left out.`));
      fields = Object.fromEntries(Object.entries(fields).filter(([knob]) => !refused.includes(knob)));
    }
  };
}

async function toForm(fields: Body, files: FormFile[]) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) form.append(name, String(value));
  for (const { field, name, type, bytes } of files) form.append(field, new Blob([bytes], { type }), name);
  const encoded = new Response(form);
  const headers = { 'content-type': encoded.headers.get('content-type')! };
  return { body: new Uint8Array(await encoded.arrayBuffer()), headers };
}
