// What somebody wants to have, as the repository of Hugging Face that programs fetch by themselves.
import type { PullWant } from '../../../../src/puller.ts';

export interface Repository {
  /** `org/name`. */
  repo: string;
  /** Which of its files: `Q4_K_M`. */
  tag?: string;
  /** It was said to lie at Hugging Face, and did not only look like it. */
  named: boolean;
}

const PLACE = /^(?:hf:|(?:https:\/\/)?(?:hf\.co|(?:www\.)?huggingface\.co)\/)/i;
const NAME = /^([\w.-]{1,96}\/[\w.-]{1,96}?)(?:\.git|\/)?(?::([\w.-]{1,64}))?$/;

/**
 * Undefined for everything narrower or wider: single files, revisions, other addresses; and where a hash is to be checked, which only
 * the gateway's own downloads do.
 */
export function toRepository({ model, source, sha256 }: PullWant): Repository | undefined {
  if (sha256 !== undefined) return undefined;
  const text = source ?? model;
  const named = PLACE.test(text);
  if (source !== undefined && !named) return undefined;
  const [, repo, tag] = NAME.exec(text.replace(PLACE, '')) ?? [];
  if (repo === undefined || repo.split('/').some((part) => /^\.+$/.test(part))) return undefined;
  return { repo, named, ...(tag === undefined ? {} : { tag }) };
}

/** Of the file kinds that a program may be asked for, only weights of language models are its own. */
export function takesWeights({ kind }: PullWant): boolean {
  return kind === undefined || kind === 'gguf';
}
