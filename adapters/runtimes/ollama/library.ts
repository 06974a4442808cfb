// Models of Ollama's library that are worth knowing, for those who look for one offline or do not know what to look for.
import type { CapabilityId } from '../../../src/capabilities/index.ts';

export interface LibraryModel {
  /** With its tag. */
  name: string;
  title: string;
  capabilities: CapabilityId[];
  /** Bytes to download, as the library tells; absent where that is not known for certain. */
  size?: number;
  license?: string;
}

const text: CapabilityId[] = ['text.generate', 'text.chat'];
const sees: CapabilityId[] = [...text, 'image.describe'];
const embeds: CapabilityId[] = ['text.embed'];
const MB = 1e6;
const GB = 1e9;

/** The better known first. */
export const library: readonly LibraryModel[] = [
  of('qwen3:8b', 'Qwen 3, 8 billion weights: tools and reasoning', text, 5.2 * GB, 'apache-2.0'),
  of('qwen3:14b', 'Qwen 3, 14 billion weights: tools and reasoning', text, 9.3 * GB, 'apache-2.0'),
  of('qwen3:4b', 'Qwen 3, 4 billion weights: tools and reasoning', text, 2.5 * GB, 'apache-2.0'),
  of('qwen3:1.7b', 'Qwen 3, 1.7 billion weights', text, 1.4 * GB, 'apache-2.0'),
  of('qwen3:0.6b', 'Qwen 3, 0.6 billion weights: runs anywhere', text, 523 * MB, 'apache-2.0'),
  of('llama3.2:3b', 'Llama 3.2, 3 billion weights', text, 2 * GB, 'llama3.2'),
  of('llama3.2:1b', 'Llama 3.2, 1 billion weights', text, 1.3 * GB, 'llama3.2'),
  of('llama3.1:8b', 'Llama 3.1, 8 billion weights', text, 4.9 * GB, 'llama3.1'),
  of('gemma3:4b', 'Gemma 3, 4 billion weights: sees', sees, 3.3 * GB, 'gemma'),
  of('gemma3:12b', 'Gemma 3, 12 billion weights: sees', sees, 8.1 * GB, 'gemma'),
  of('gemma3:1b', 'Gemma 3, 1 billion weights', text, 815 * MB, 'gemma'),
  of('qwen3-vl:8b', 'Qwen 3 VL, 8 billion weights: sees', sees, 6.1 * GB, 'apache-2.0'),
  of('qwen3-vl:4b', 'Qwen 3 VL, 4 billion weights: sees', sees, 3.3 * GB, 'apache-2.0'),
  of('gpt-oss:20b', 'gpt-oss, 20 billion weights: reasoning; more than 12 GB', text, 14 * GB, 'apache-2.0'),
  of('deepseek-r1:8b', 'DeepSeek R1, 8 billion weights: reasoning', text, 5.2 * GB, 'mit'),
  of('deepseek-r1:14b', 'DeepSeek R1, 14 billion weights: reasoning', text, 9 * GB, 'mit'),
  of('mistral:7b', 'Mistral, 7 billion weights', text, 4.4 * GB, 'apache-2.0'),
  of('phi4-mini', 'Phi 4 mini, 3.8 billion weights', text, 2.5 * GB, 'mit'),
  of('phi4:14b', 'Phi 4, 14 billion weights', text, 9.1 * GB, 'mit'),
  of('qwen2.5-coder:7b', 'Qwen 2.5 Coder, 7 billion weights: code, fills gaps', text, 4.7 * GB, 'apache-2.0'),
  of('qwen2.5vl:7b', 'Qwen 2.5 VL, 7 billion weights: sees', sees, 6 * GB, 'apache-2.0'),
  of('llava:7b', 'LLaVA, 7 billion weights: sees', sees, 4.7 * GB, 'apache-2.0'),
  of('moondream', 'Moondream 2: sees, small', sees, 1.7 * GB, 'apache-2.0'),
  of('smollm2:135m', 'SmolLM 2, 135 million weights: for tests', text, 271 * MB, 'apache-2.0'),
  of('nomic-embed-text', 'Nomic Embed: vectors of texts', embeds, 274 * MB, 'apache-2.0'),
  of('mxbai-embed-large', 'mxbai Embed Large: vectors of texts', embeds, 670 * MB, 'apache-2.0'),
  of('bge-m3', 'BGE-M3: vectors of texts in many languages', embeds, 1.2 * GB, 'mit'),
  of('all-minilm', 'all-MiniLM: vectors of texts, small', embeds, 46 * MB, 'apache-2.0'),
  of('embeddinggemma:300m', 'EmbeddingGemma: vectors of texts', embeds, 622 * MB, 'gemma'),
];

/** Names of the library without their tags. */
export const libraryNames: ReadonlySet<string> = new Set(library.map(({ name }) => name.split(':')[0]!));

function of(name: string, title: string, capabilities: CapabilityId[], size: number, license: string): LibraryModel {
  return { name, title, capabilities, size, license };
}
