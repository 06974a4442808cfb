// /api/jobs of a fake ComfyUI: queue and history in one shape.
import type { Item } from './execution.ts';
import { json } from '../fake-http.ts';
import type { Answer } from '../fake-http.ts';
import type { HistoryEntry, Queue } from './queue.ts';

type Job = Record<string, unknown>;
const STATES = ['pending', 'in_progress', 'completed', 'failed', 'cancelled'];

export function jobOf(queue: Queue, id: string): Job | undefined {
  const entry = queue.history.get(id);
  if (entry) {
    const [, , prompt, extra_data] = entry.prompt;
    return {
      ...finished(id, entry),
      outputs: entry.outputs,
      execution_status: entry.status,
      workflow: { prompt, extra_data },
    };
  }
  if (queue.running()?.id === id) return waiting(queue.running()!, 'in_progress');
  const item = queue.pending().find((item) => item.id === id);
  return item && waiting(item, 'pending');
}

export function jobList(queue: Queue, query: URLSearchParams): Answer {
  const wanted = query.get('status')?.split(',') ?? STATES;
  const wrong = wanted.filter((state) => !STATES.includes(state));
  if (wrong.length > 0) {
    const error = `Invalid status value(s): ${wrong.join(', ')}. Valid values: ${STATES.join(', ')}`;
    return json({ error }, 400);
  }
  const running = queue.running();
  const jobs = [
    ...(running ? [waiting(running, 'in_progress')] : []),
    ...queue.pending().map((item) => waiting(item, 'pending')),
    ...[...queue.history].map(([id, entry]) => finished(id, entry)),
  ].filter((job) => wanted.includes(String(job['status'])));
  const turn = query.get('sort_order') === 'asc' ? 1 : -1;
  const sorted = jobs.toSorted((a, b) => turn * (Number(a['create_time']) - Number(b['create_time'])));
  const offset = Math.max(0, Number(query.get('offset') ?? 0));
  const limit = query.has('limit') ? Number(query.get('limit')) : null;
  const page = sorted.slice(offset, limit === null ? undefined : offset + limit);
  const pagination = { offset, limit, total: jobs.length, has_more: offset + page.length < jobs.length };
  return json({ jobs: page, pagination });
}

function waiting(item: Item, status: string): Job {
  return { id: item.id, status, priority: item.number, create_time: item.extra['create_time'], outputs_count: 0 };
}

function finished(id: string, entry: HistoryEntry): Job {
  const [priority, , , extra] = entry.prompt;
  const found = (name: string) => entry.status.messages.find(([event]) => event === name)?.[1];
  const error = found('execution_error');
  const end = found('execution_success') ?? error ?? found('execution_interrupted');
  const status = found('execution_interrupted') ? 'cancelled' : error ? 'failed' : 'completed';
  const items = Object.entries(entry.outputs).flatMap(([nodeId, output]) =>
    Object.entries(output as Record<string, object[]>).flatMap(([mediaType, list]) =>
      mediaType === 'animated' ? [] : list.map((item): Job => ({ ...item, nodeId, mediaType })),
    ),
  );
  const shown = items.filter(
    (item) =>
      ['images', 'video', 'audio'].includes(String(item['mediaType'])) ||
      /^(video|audio)\//.test(String(item['format'])),
  );
  const preview = shown.find((item) => item['type'] === 'output') ?? shown[0];
  return {
    id,
    status,
    priority,
    create_time: (extra as Job)['create_time'],
    execution_start_time: found('execution_start')?.['timestamp'],
    execution_end_time: end?.['timestamp'],
    ...(error && { execution_error: error }),
    outputs_count: items.length,
    previewable_outputs_count: shown.length,
    ...(preview && { preview_output: preview }),
  };
}
