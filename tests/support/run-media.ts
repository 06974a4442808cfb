// One call of a runtime that makes files, with files of its own, run to its end.
import sharp from 'sharp';
import type { CapabilityId, Input } from '../../src/capabilities/index.ts';
import { capabilities } from '../../src/capabilities/index.ts';
import type { RunEvent } from '../../src/event.ts';
import type { InputFile, Model, RuntimeAdapter } from '../../src/runtime.ts';

export interface MediaCall {
  model: string | Model;
  /** By the names that the input has for them. */
  files?: Record<string, Uint8Array>;
  signal?: AbortSignal;
  onEvent?: (event: RunEvent<unknown, unknown>) => void;
}

/** Checks the input as the gateway does, and gives all that was said. */
export async function runMedia<Id extends CapabilityId>(
  runtime: RuntimeAdapter,
  id: Id,
  input: Record<string, unknown>,
  { model, files = {}, signal = new AbortController().signal, onEvent }: MediaCall,
) {
  const events: RunEvent<unknown, unknown>[] = [];
  const checked = capabilities[id].input.parse(input) as Input<Id>;
  const named = typeof model === 'string' ? { id: model, capabilities: [id], state: 'ready' as const } : model;
  const call = { model: named, signal, requestId: 'req_test', file: (name: string) => toFile(name, files[name]) };
  for await (const event of runtime.handles[id]!(checked, call)) {
    events.push(event as RunEvent<unknown, unknown>);
    onEvent?.(event as RunEvent<unknown, unknown>);
  }
  const last = events.at(-1);
  if (last?.type !== 'result') throw new Error('no result');
  const made = (last.files ?? []).map(({ bytes }) => bytes as Uint8Array);
  return {
    events,
    result: last.result as { seed?: number; revised_prompt?: string; cost_usd?: number },
    files: made,
    warnings: events.flatMap((event) => (event.type === 'warning' ? [event.warning] : [])),
    progress: events.flatMap((event) => (event.type === 'progress' ? [event.done] : [])),
  };
}

async function toFile(id: string, bytes: Uint8Array | undefined): Promise<InputFile> {
  if (!bytes) throw new Error(`no file ${id}`);
  const { width, height, format } = await sharp(bytes).metadata();
  return {
    id,
    media_type: `image/${format}`,
    size: bytes.byteLength,
    sha256: '',
    media: { width, height },
    bytes: () => Promise.resolve(new Uint8Array(bytes)),
  };
}
