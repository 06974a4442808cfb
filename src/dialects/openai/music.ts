// Music in the words that others use for it beside OpenAI's speech: one request, the sound itself as the answer.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { toDisposition } from '../../artifacts/names.ts';
import { toServed } from '../../artifacts/sniff.ts';
import { prompt } from '../../capabilities/image/fields.ts';
import { musicFormats, musicGenerate } from '../../capabilities/music/generate.ts';
import { GatewayError } from '../../error.ts';
import type { AppContext, AppEnv } from '../../http/context.ts';
import { readPrint } from '../../http/inputs.ts';
import { withBytes } from '../../http/job.ts';
import { describeRoute } from '../../http/openapi.ts';
import { toPulledStream } from '../../http/ranges.ts';
import { respondJson } from '../../http/respond.ts';
import { answerFromJob, type AskedNote, type Made } from './from-job.ts';
import { readMedia, toAbsolute, toCapabilityInput, toModel } from './media-request.ts';

const { lyrics, bpm, key, time_signature, language, seed, ...others } = musicGenerate.input.shape;
const { steps, num_inference_steps, guidance_scale, format } = others;
const length = z.coerce.number().min(1).max(600).optional();

const musicRequest = z.object({
  model: z.string().max(512).optional().describe('The default if absent.'),
  prompt: prompt.optional().describe('Style, mood, instruments: a description or tags, comma-separated.'),
  input: prompt.optional().describe('The same as prompt.'),
  lyrics,
  seconds: length.describe('How long it is.'),
  duration: length.describe('The same as seconds.'),
  bpm,
  key,
  time_signature,
  language,
  seed,
  steps,
  num_inference_steps,
  guidance_scale,
  format,
  response_format: z
    .enum([...musicFormats, 'b64_json', 'url'])
    .optional()
    .describe('A format of sound, which then is the answer; or b64_json or url, and the answer is JSON.'),
});

const musicAnswer = z.object({
  created: z.int(),
  data: z.array(z.object({ b64_json: z.string().optional(), url: z.string().optional() })),
});

interface MusicNote extends AskedNote {
  answer: 'sound' | 'b64_json' | 'url';
}

export function serveMusic(app: OpenAPIHono<AppEnv>): void {
  describeRoute(app, {
    method: 'post',
    path: '/v1/audio/generations',
    tag: 'openai',
    summary: 'Make music',
    description:
      'Answers with the sound itself. With response_format b64_json or url, or where JSON is all that Accept names, with JSON.',
    input: musicRequest,
    output: musicAnswer,
    jobs: true,
  });
  app.post(
    '/v1/audio/generations',
    answerFromJob<MusicNote>({ take, render, print: (c) => readPrint(c, musicRequest) }),
  );
}

async function take(c: AppContext) {
  const { response_format, duration, input, model: name, ...asked } = await readMedia(c, musicRequest);
  const { model, warnings } = await toModel(c, name);
  const inJson = response_format === 'b64_json' || response_format === 'url';
  return {
    capability: musicGenerate.id,
    input: toCapabilityInput(musicGenerate.id, {
      ...asked,
      model,
      prompt: asked.prompt ?? input,
      seconds: asked.seconds ?? duration,
      format: asked.format ?? (inJson ? undefined : response_format),
    }),
    note: { warnings, answer: inJson ? response_format : wantsJson(c) ? 'b64_json' : 'sound' } satisfies MusicNote,
  };
}

async function render(c: AppContext, { job, note, headers }: Made<MusicNote>): Promise<Response> {
  if (note.answer === 'sound') return respondSound(c, job.artifacts[0]?.id, headers);
  const { artifacts } = note.answer === 'b64_json' ? await withBytes(c, job) : job;
  const data = artifacts.map(({ b64_json, url }) =>
    b64_json === undefined ? { url: toAbsolute(c, url) } : { b64_json },
  );
  const created = Math.floor(Date.parse(job.finished_at ?? '') / 1000);
  return respondJson(c, { created, data } satisfies z.output<typeof musicAnswer>, { headers });
}

async function respondSound(c: AppContext, id: string | undefined, headers: Record<string, string>): Promise<Response> {
  const { artifacts } = c.var.app;
  const record = id === undefined ? undefined : await artifacts.get(c.var.caller, id);
  const source = record && (await artifacts.open(record));
  if (!source) throw new GatewayError('expired', 'The file of this job is gone.');
  const { name, media_type, size } = record.value;
  const { contentType, inline } = toServed(media_type);
  return new Response(toPulledStream(source), {
    headers: {
      ...c.var.headers,
      ...headers,
      'content-type': contentType,
      'content-length': String(size),
      'content-disposition': toDisposition(name, inline),
    },
  });
}

/** Most clients take anything: they get the sound. */
function wantsJson(c: AppContext): boolean {
  const accept = c.req.header('accept') ?? '';
  return accept.includes('application/json') && !/\*\/\*|audio\//.test(accept);
}
