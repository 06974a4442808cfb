// Everything that can be asked. A new capability is one file and one line here.
import type { z } from 'zod';
import { imageDescribe } from './image/describe.ts';
import { imageEdit } from './image/edit.ts';
import { imageGenerate } from './image/generate.ts';
import { imageUpscale } from './image/upscale.ts';
import { imageVary } from './image/vary.ts';
import { modelPull } from './model/pull.ts';
import { musicGenerate } from './music/generate.ts';
import { textChat } from './text/chat.ts';
import { textEdit } from './text/edit.ts';
import { textEmbed } from './text/embed.ts';
import { textEvaluate } from './text/evaluate.ts';
import { textGenerate } from './text/generate.ts';
import { textStory } from './text/story.ts';
import { videoGenerate } from './video/generate.ts';

export const capabilities = {
  [textGenerate.id]: textGenerate,
  [textChat.id]: textChat,
  [textEdit.id]: textEdit,
  [textEvaluate.id]: textEvaluate,
  [textStory.id]: textStory,
  [textEmbed.id]: textEmbed,
  [imageGenerate.id]: imageGenerate,
  [imageEdit.id]: imageEdit,
  [imageVary.id]: imageVary,
  [imageDescribe.id]: imageDescribe,
  [imageUpscale.id]: imageUpscale,
  [videoGenerate.id]: videoGenerate,
  [musicGenerate.id]: musicGenerate,
  [modelPull.id]: modelPull,
};

export type Capabilities = typeof capabilities;
export type CapabilityId = keyof Capabilities;
export const capabilityIds = Object.keys(capabilities) as CapabilityId[];

/** A validated request of a capability. */
export type Input<Id extends CapabilityId> = z.output<Capabilities[Id]['input']>;
/** One streamed piece of its answer. */
export type Chunk<Id extends CapabilityId> = z.output<Capabilities[Id]['chunk']>;
/** What a handler makes of it; the gateway adds the envelope. */
export type Result<Id extends CapabilityId> = z.output<Capabilities[Id]['result']>;
/** What a caller gets. */
export type Output<Id extends CapabilityId> = Result<Id> & { model: string; runtime: string; warnings: string[] };
