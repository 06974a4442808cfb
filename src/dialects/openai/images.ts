// OpenAI images ⇄ image.generate, image.edit and image.vary: JSON and forms in, bytes or links out, first looks on the way.
import type { OpenAPIHono } from '@hono/zod-openapi';
import type { z } from 'zod';
import type { CapabilityId } from '../../capabilities/index.ts';
import type { AppEnv } from '../../http/context.ts';
import { readPrint } from '../../http/inputs.ts';
import { describeRoute } from '../../http/openapi.ts';
import { answerFromJob } from './from-job.ts';
import { createImageTeller, imagesResponse, respondImages } from './image-answer.ts';
import {
  editRequest,
  generationRequest,
  toImageNote,
  variationRequest,
  type ImageAsked,
  type ImageNote,
} from './image-fields.ts';
import { readMedia, toCapabilityInput, toModel } from './media-request.ts';

interface ImageRoute {
  path: `/v1/images/${string}`;
  capability: CapabilityId;
  request: z.ZodObject;
  summary: string;
  description?: string;
  /** Of the events that a streamed answer has. */
  event?: string;
}

const FORMS =
  'JSON, or multipart/form-data with the files in it. In JSON a file is an artifact’s id, a data: URL, {"image_url"} or {"file_id"}.';

const routes: ImageRoute[] = [
  {
    path: '/v1/images/generations',
    capability: 'image.generate',
    request: generationRequest,
    summary: 'Make pictures',
    event: 'image_generation',
  },
  {
    path: '/v1/images/edits',
    capability: 'image.edit',
    request: editRequest,
    summary: 'Change pictures',
    description: FORMS,
    event: 'image_edit',
  },
  {
    path: '/v1/images/variations',
    capability: 'image.vary',
    request: variationRequest,
    summary: 'Make pictures like one that is given',
    description: FORMS,
  },
];

export function serveImages(app: OpenAPIHono<AppEnv>): void {
  for (const { path, capability, request, event, summary, description } of routes) {
    describeRoute(app, {
      method: 'post',
      path,
      tag: 'openai',
      summary,
      ...(description === undefined ? {} : { description }),
      input: request,
      output: imagesResponse,
      streams: event !== undefined,
      jobs: true,
    });
    app.post(
      path,
      answerFromJob<ImageNote>({
        async take(c) {
          const asked = (await readMedia(c, request)) as ImageAsked;
          const { model, warnings } = await toModel(c, asked.model);
          const note = toImageNote(asked, warnings);
          const { partial_images: partials = 0, size } = asked;
          const taken = { capability, input: toCapabilityInput(capability, { ...asked, model }), note };
          const isStreamed = event !== undefined && asked.stream;
          return isStreamed ? { ...taken, tell: createImageTeller(c, { event, note, partials, size }) } : taken;
        },
        render: respondImages,
        print: (c) => readPrint(c, request),
      }),
    );
  }
}
