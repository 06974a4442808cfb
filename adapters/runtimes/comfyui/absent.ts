// ComfyUI where there is none: what it could have is known all the same, and whoever asks for it is told what to start.
import { GatewayError } from '../../../src/error.ts';
import type { Puller, PullWant } from '../../../src/puller.ts';
import { createHub } from '../../downloads/hub.ts';
import type { Downloads } from '../../downloads/index.ts';
import { claimOf, matches, toBareOffer } from './puller.ts';
import { openWorkflows, type OpenWorkflows } from './shelf.ts';

const SOURCE = 'comfyui';
const HINT = 'Start ComfyUI and set HONO_AI_COMFYUI_URL to its address.';

export function createAbsentComfyUI({ downloads, hubUrl }: { downloads: Downloads; hubUrl: string }): Puller {
  const hub = createHub(downloads, { url: hubUrl });
  let opened: OpenWorkflows | undefined;
  // Read when somebody asks: a start must not cost what is seldom needed.
  const known = () => (opened ??= openWorkflows({ source: SOURCE })).known();

  function refuse({ model }: PullWant): never {
    throw new GatewayError('not_supported', `${model} would be for ComfyUI, which is not here.`, {
      param: 'model',
      source: SOURCE,
      hint: HINT,
    });
  }

  return {
    runtime: SOURCE,
    claims(want) {
      const claim = claimOf(want, known(), hub);
      // Of what may be somebody else's as well, it is somebody else's who is here.
      return claim === undefined || claim <= 10 ? undefined : claim;
    },
    plan: async (want) => refuse(want),
    // oxlint-disable-next-line require-yield
    async *pull(want) {
      refuse(want);
    },
    async search(words) {
      const found = [...Map.groupBy(known(), ({ model }) => model)].filter(([, each]) => matches(each, words));
      return found.map(([model, each]) => {
        const offer = toBareOffer({ model, workflows: each });
        return { ...offer, title: `${offer.title ?? model} (needs ComfyUI)`, present: false };
      });
    },
  };
}
