// Kokoro, which speaks: the weights for PyTorch with their voices, or those for ONNX.
import type { Shelf, ShelfPart } from './shelf.ts';

const TORCH = 'hexgrad/Kokoro-82M';
const ONNX = 'onnx-community/Kokoro-82M-v1.0-ONNX';

export const kokoro: Shelf = {
  runtime: 'kokoro',
  folder: 'kokoro',
  capabilities: [],
  models: [
    {
      id: 'kokoro',
      title: 'Kokoro 82M: text to speech, with every voice',
      aliases: ['kokoro-82m', 'Kokoro-82M', TORCH],
      parts: [
        { repo: TORCH, files: 'kokoro-v1_0.pth' },
        { repo: TORCH, files: /^(config\.json|voices\/[a-z]{2}_[a-z\d]+\.pt)$/ },
      ],
      license: 'Apache-2.0',
      size: 356_000_000,
    },
    {
      id: 'kokoro-onnx',
      title: 'Kokoro 82M for ONNX: text to speech, with every voice',
      aliases: [ONNX],
      parts: toParts('model'),
      license: 'Apache-2.0',
      size: 355_000_000,
    },
    {
      id: 'kokoro-onnx-q8',
      title: 'Kokoro 82M for ONNX at 8 bits: text to speech, with every voice',
      parts: toParts('model_quantized'),
      license: 'Apache-2.0',
      size: 121_000_000,
    },
  ],
};

function toParts(weights: string): ShelfPart[] {
  return [
    { repo: ONNX, into: 'onnx-82m', files: `onnx/${weights}.onnx` },
    { repo: ONNX, into: 'onnx-82m', files: /^(config|tokenizer(_config)?)\.json$|^voices\/[a-z]{2}_[a-z\d]+\.bin$/ },
  ];
}
