// One request on the model that was chosen for it: the runtime's own handler, or the capability's derivation over those it has.
import { toDataUrl } from './base64.ts';
import type { Ask, Derivation } from './capabilities/define.ts';
import { capabilities, type CapabilityId, type Chunk, type Input, type Result } from './capabilities/index.ts';
import { GatewayError } from './error.ts';
import type { RunEvent } from './event.ts';
import type { MediaTools } from './media.ts';
import type { Call, Model, RuntimeAdapter } from './runtime.ts';

/** Kinds of pictures that every model that sees can read. */
const EVERYBODY_READS = /^image\/(png|jpeg)$/;

/** `toPng` makes pictures readable for models that know few kinds; without it they go as they are. Throws not_supported. */
export function handle<Id extends CapabilityId>(
  id: Id,
  input: Input<Id>,
  { runtime, model }: { runtime: RuntimeAdapter; model: Model },
  call: Call,
  toPng: MediaTools['toPng'] | undefined,
): AsyncIterable<RunEvent<Chunk<Id>, Result<Id>>> {
  const own = runtime.handles[id];
  if (own && model.capabilities.includes(id)) return own(input, call);
  const derive = capabilities[id].derive as Derivation<Input<Id>, Chunk<Id>, Result<Id>> | undefined;
  if (!derive) throw new GatewayError('not_supported', `${model.id} does not offer ${id}.`, { source: runtime.name });
  const ask: Ask = {
    model,
    async inline(reference) {
      const file = await call.file(reference);
      const bytes = await file.bytes();
      if (!toPng || EVERYBODY_READS.test(file.media_type)) return toDataUrl(file.media_type, bytes);
      return toDataUrl('image/png', (await toPng(bytes)).bytes);
    },
    offers: (other) => other in runtime.handles && model.capabilities.includes(other as CapabilityId),
    run: (capability, raw) => {
      const handler = runtime.handles[capability.id as CapabilityId];
      if (!handler)
        throw new GatewayError('not_supported', `${model.id} does not offer ${capability.id}.`, {
          source: runtime.name,
        });
      // The capability's own schema has just made the input; the two type parameters cannot see each other.
      return (handler as unknown as (input: unknown, call: Call) => ReturnType<Ask['run']>)(
        capability.input.parse(raw),
        call,
      ) as never;
    },
  };
  return derive.run(input, ask);
}
