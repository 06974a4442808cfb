// What is written down about a file, and the changes that add, find and remove it; they are committed as one.
import type { Measures } from '../capabilities/file.ts';
import { GatewayError } from '../error.ts';
import type { Document, Put } from '../store.ts';

export const ARTIFACT = 'artifact';
/** Finds the artifacts of a job or a purpose; under the id of the artifact with the field's name behind. */
export const LINK = 'artifact_link';
/** What has been here and has left on its own. */
export const EXPIRED = 'expired';

const ID = /^art_[0-9a-f]{32}$/;
/** How long it is known that something was here, in milliseconds. */
const REMEMBERED_MS = 30 * 86_400_000;

export interface ArtifactValue {
  name: string;
  /** As its bytes say. */
  media_type: string;
  size: number;
  media?: Measures;
  /** SHA-256, lower-case hexadecimal; the same in `ref`. */
  hash: string;
  job?: string;
  /** Its place among the files of the job. */
  index?: number;
  purpose?: string;
  /** ISO 8601. */
  created_at: string;
  /** How it was made: capability, model, runtime, prompt, seed, workflow, … */
  made?: Record<string, unknown>;
}

/** `due` is when it leaves if nobody uses it until then. */
export type ArtifactRecord = Document<ArtifactValue>;

export function toArtifactId(): string {
  return `art_${crypto.randomUUID().replaceAll('-', '')}`;
}

export function isArtifactId(id: string): boolean {
  return ID.test(id);
}

export function toAddition(id: string, owner: string, value: ArtifactValue, due: number): Put[] {
  const links = linksOf(id, value).map((link): Put => ({
    kind: LINK,
    id: link.id,
    owner,
    ref: link.ref,
    value: id,
    if: 'absent',
  }));
  return [{ kind: ARTIFACT, id, owner, value, due, ref: value.hash, if: 'absent' }, ...links];
}

/** Only while it is as it was read. */
export function toChange({ id, owner, version }: ArtifactRecord, value: ArtifactValue, due: number): Put {
  return { kind: ARTIFACT, id, owner, value, due, ref: value.hash, if: version };
}

/** `at`: it leaves on its own, and that is remembered. */
export function toRemoval({ id, owner, value, version }: ArtifactRecord, at?: number): Put[] {
  const links = linksOf(id, value).map((link): Put => ({ kind: LINK, id: link.id, delete: true }));
  const trace: Put[] = at === undefined ? [] : [{ kind: EXPIRED, id, owner, value: { at }, due: at + REMEMBERED_MS }];
  return [{ kind: ARTIFACT, id, delete: true, if: version }, ...links, ...trace];
}

export function toRef(field: 'job' | 'purpose', value: string): string {
  return `${field} ${value}`;
}

function linksOf(id: string, { job, purpose }: ArtifactValue): { id: string; ref: string }[] {
  return [
    ...(job === undefined ? [] : [{ id: `${id} job`, ref: toRef('job', job) }]),
    ...(purpose === undefined ? [] : [{ id: `${id} purpose`, ref: toRef('purpose', purpose) }]),
  ];
}

export function notFound(): GatewayError {
  return new GatewayError('not_found', 'There is no such artifact.');
}

export function expired(): GatewayError {
  return new GatewayError('expired', 'This artifact was not used for long and has been deleted.', {
    hint: 'Run the job again, or raise HONO_AI_ARTIFACT_KEEP_MS or HONO_AI_ARTIFACT_BUDGET.',
  });
}
