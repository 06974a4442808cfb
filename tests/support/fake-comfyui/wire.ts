// Binary frames and memory figures of a fake ComfyUI.
import type { ExecutionContext } from './execution.ts';
import type { Sockets } from './sockets.ts';
import type { FakeGraph } from './types.ts';

/** Bytes of the card: a Radeon RX 6750 XT. */
export const VRAM_TOTAL = 12_868_124_672;
/** What the desktop takes. */
const DESKTOP = 600_000_000;

/** 4-byte event type, then what the type says; see the server's `send_image`. */
export function previewFrames(
  sockets: Sockets,
  clientId: string,
): Pick<ExecutionContext, 'sendPreview' | 'sendPlainPreview'> {
  const tagged = () => sockets.flag(clientId, 'supports_preview_metadata');
  return {
    sendPreview(image, media, node) {
      if (!tagged()) return;
      const text = Buffer.from(JSON.stringify({ ...node, image_type: media }));
      sockets.sendBinary(clientId, Buffer.concat([big32(4), big32(text.length), text, image]));
    },
    sendPlainPreview(image, media) {
      if (tagged()) return;
      sockets.sendBinary(clientId, Buffer.concat([big32(1), big32(media === 'image/png' ? 2 : 1), image]));
    },
  };
}

/** What the models of a graph take on the card, by the names of their files. */
export function vramOf(graph: FakeGraph): number {
  const names = Object.values(graph).flatMap(({ inputs }) => [inputs['ckpt_name'], inputs['unet_name']]);
  const motion = Object.values(graph).some(({ class_type: type }) => type.startsWith('ADE_Load')) ? 3_400_000_000 : 0;
  return names.filter((name) => name !== undefined).reduce((sum: number, name) => sum + sizeOf(String(name)), motion);
}

function sizeOf(name: string): number {
  if (/wan|qwen/i.test(name)) return 9_800_000_000;
  if (/ace/i.test(name)) return 7_500_000_000;
  return name.includes('v1-5') ? 2_600_000_000 : 6_900_000_000;
}

export function systemStats(loaded: number): object {
  return {
    system: {
      os: 'linux',
      ram_total: 33_500_000_000,
      ram_free: 21_000_000_000,
      comfyui_version: '0.33.0',
      required_frontend_version: '1.49.6',
      installed_templates_version: null,
      required_templates_version: '0.11.44',
      comfy_package_versions: [],
      python_version: '3.12.11 (main, Aug 8 2026, 17:06:48) [GCC 12.2.0]',
      pytorch_version: '2.13.0+rocm7.2',
      embedded_python: false,
      deploy_environment: 'local-git',
      argv: ['main.py', '--listen', '0.0.0.0', '--preview-method', 'auto'],
    },
    devices: [
      {
        name: 'cuda:0 AMD Radeon RX 6750 XT : native',
        type: 'cuda',
        index: 0,
        vram_total: VRAM_TOTAL,
        vram_free: VRAM_TOTAL - DESKTOP - loaded,
        torch_vram_total: loaded,
        torch_vram_free: 0,
      },
    ],
  };
}

function big32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
