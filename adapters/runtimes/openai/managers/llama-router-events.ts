// How far a download of llama-server’s router is: its events tell, while its list only says that there is one.
import type { PulledFile } from '../../../../src/capabilities/model/fields.ts';
import type { ProgressEvent } from '../../../../src/event.ts';
import type { Upstream } from '../../../../src/upstream.ts';
import { readEvents } from '../../sse.ts';
import { pause } from '../films.ts';
import { toCount } from './asking.ts';

/** By address. */
export type RouterProgress = Record<string, { done?: unknown; total?: unknown } | null>;

export interface Download {
  files: Map<string, PulledFile>;
  /** Takes what somebody told; what is no progress is left out. */
  add(progress: RouterProgress | null | undefined): void;
  sum(): ProgressEvent;
  /** Whether anybody would tell if it went on. */
  told(): boolean;
  /** It has ended, well or not. */
  over(): boolean;
}

/** Listens until `signal` aborts; a server without events is no error. */
export function followDownload(upstream: Upstream, id: string, everyMs: number, signal: AbortSignal): Download {
  const files = new Map<string, PulledFile>();
  const come = new Map<string, number>();
  let told = false;
  let over = false;

  const add: Download['add'] = (progress) => {
    if (typeof progress !== 'object') return;
    for (const [url, part] of Object.entries(progress ?? {})) {
      const size = toCount(part?.total) ?? 0;
      told = true;
      come.set(url, Math.min(toCount(part?.done) ?? 0, size));
      files.set(url, { name: toFileName(url), size });
    }
  };

  async function listen(): Promise<boolean> {
    const reply = await upstream.send('/models/sse', { method: 'GET', signal });
    if (reply.status !== 200 || !reply.header('content-type')?.startsWith('text/event-stream')) {
      await reply.text();
      return false;
    }
    told = true;
    for await (const { data } of readEvents(reply.body, { source: upstream.name, maxEventChars: EVENT_CHARS })) {
      const said = toEvent(data, id);
      add(said?.data?.progress);
      over ||= said?.event === 'download_finished' || said?.event === 'download_failed';
    }
    return true;
  }

  /** The stream ends whenever nothing has happened for long, which is no news. */
  async function keepListening(): Promise<void> {
    while (!signal.aborted && (await listen().catch(() => true))) await pause(everyMs, signal);
  }
  void keepListening().catch(() => {});

  return {
    files,
    add,
    told: () => told,
    over: () => over,
    sum() {
      let done = 0;
      let total = 0;
      for (const [url, { size = 0 }] of files) {
        done += come.get(url) ?? 0;
        total += size;
      }
      return { type: 'progress', done, total, unit: 'bytes' };
    },
  };
}

const EVENT_CHARS = 1024 * 1024;

interface RouterEvent {
  event?: unknown;
  data?: { progress?: RouterProgress } | null;
}

/** Where it is one about `id`, which may be known there with its quantization. */
function toEvent(text: string, id: string): RouterEvent | undefined {
  try {
    const said = JSON.parse(text) as RouterEvent & { model?: unknown };
    const { model } = said;
    return typeof model === 'string' && (model === id || model.startsWith(`${id}:`)) ? said : undefined;
  } catch {
    return undefined;
  }
}

function toFileName(url: string): string {
  const last = url.split(/[?#]/)[0]!.split('/').at(-1)!;
  return last.replace(/[\p{Cc}\p{Cf}]/gu, '').slice(0, 200) || 'file';
}
