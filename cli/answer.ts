// A capability's answer → what is printed: text as it comes, one JSON object, or a line of JSON for each event.
import type { Invocation } from './command.ts';
import type { ProgressEvent, StatusEvent } from '../src/event.ts';
import { readEvents, type AnyEvent } from './events.ts';
import { toQueued, toSpan } from './progress.ts';
import { readAnswer, withTarget, type Target } from './target.ts';

export interface Question {
  path: string;
  /** The request, once its files are where the gateway finds them. */
  settle(target: Target): Promise<Record<string, unknown>>;
  headers: Record<string, string>;
  /** The capability can answer in pieces. */
  streams: boolean;
  showChunk(chunk: unknown): string;
  showResult(result: unknown): string;
}

export type Form = 'text' | 'whole' | 'json' | 'events';

/** Asks and prints. Throws a CommandFailure. */
export function answer(invocation: Invocation, question: Question, form: Form): Promise<void> {
  return withTarget(invocation, async (target) => {
    const printer = createPrinter(invocation, question, form);
    try {
      const body = await question.settle(target);
      const reply = await target.send({
        method: 'POST',
        path: question.path,
        headers: question.headers,
        // Streams even where the answer is printed whole: heartbeats keep a long wait alive, and its status is told.
        body: JSON.stringify(question.streams ? { ...body, stream: true } : body),
      });
      if (reply.status !== 200 || !reply.header('content-type')?.startsWith('text/event-stream')) {
        printer.show({ type: 'result', result: (await readAnswer(reply)) as Record<string, unknown> });
      } else {
        for await (const event of readEvents(reply.body)) printer.show(event);
      }
    } finally {
      printer.end();
    }
  });
}

function createPrinter({ out }: Invocation, question: Question, form: Form) {
  const told = new Set<unknown>();
  let printed = false;

  function print(text: string): void {
    if (text === '') return;
    printed = true;
    out.text(text);
  }

  function warn(warning: unknown): void {
    if (told.has(warning)) return;
    told.add(warning);
    out.note(`warning: ${String(warning)}`);
  }

  function finish(result: Record<string, unknown>): void {
    if (form === 'json') out.json(result);
    else if (!printed) print(question.showResult(result));
    out.endText();
    for (const warning of (result['warnings'] as unknown[] | undefined) ?? []) warn(warning);
    out.note(toSummary(result));
  }

  return {
    show(event: AnyEvent): void {
      if (form === 'events') out.jsonLine(event);
      else if (event.type === 'result') finish(event.result);
      else if (event.type === 'chunk') {
        if (form === 'text') print(question.showChunk(event.chunk));
        // In the middle of a line of text a warning waits for the result, which repeats it.
      } else if (event.type === 'warning') {
        if (!printed) warn(event.warning);
      } else if (event.type !== 'preview') out.status(toStatus(event), isPassing(event));
    },
    end: () => out.endText(),
  };
}

/** Worth seeing on a terminal while it lasts, but not a line in a log. */
function isPassing(event: StatusEvent | ProgressEvent): boolean {
  if (event.type === 'progress') return true;
  return event.message === undefined && event.position === undefined && event.state !== 'swapping';
}

function toStatus(event: StatusEvent | ProgressEvent): string {
  if (event.type === 'progress') return `${event.done} of ${event.total}${event.unit ? ` ${event.unit}` : ''}`;
  const { state, position, eta, message } = event;
  const queued = state === 'queued';
  const standing = queued ? toQueued(position, eta) : `${state}${eta ? `, ~${toSpan(eta)}` : ''}`;
  return message === undefined ? standing : `${standing}: ${message}`;
}

/** What really ran, and why it ended where that was not by itself. */
function toSummary(result: Record<string, unknown>): string {
  const {
    model,
    runtime,
    usage,
    finish_reason: reason,
  } = result as {
    model?: string;
    runtime?: string;
    usage?: { completion_tokens?: number; total_tokens?: number };
    finish_reason?: string;
  };
  const tokens = usage?.completion_tokens ?? usage?.total_tokens;
  return [
    `${model} on ${runtime}`,
    tokens === undefined ? '' : `${tokens} tokens`,
    reason === undefined || reason === 'stop' ? '' : `ended by ${reason}`,
  ]
    .filter(Boolean)
    .join(', ');
}
