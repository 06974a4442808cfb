// Makers and readers of small real media files, for tests.
export { makeFlac, makeMp3, makeOpus, makeWav } from './audio.ts';
export type { Rgb } from './h264.ts';
export * from './hostile.ts';
export { makeAnimation, makePattern, makePicture, makePngWithTexts, withTexts } from './pictures.ts';
export { probe } from './probe.ts';
export type { Probed } from './probe.ts';
export { makeMp4, makeWebm } from './video.ts';
