// One prompt: sent once, followed to its end, and taken back wherever its caller leaves.
import type { Client } from './client.ts';
import { hasNodeErrors, isStale, toRefusal } from './failure.ts';
import { follow, look } from './follow.ts';
import type { FollowParts, JobEvent } from './follow.ts';
import { createMailbox } from './mailbox.ts';
import type { Heard } from './socket.ts';
import { toObject } from './wire.ts';
import type { HistoryEntry } from './wire.ts';
import type { Graph, ObjectInfo } from './workflow.ts';

export interface JobParts extends FollowParts {
  /** Work that goes on when its caller has gone: cancels that the server has not acknowledged yet. */
  background(work: Promise<void>): void;
}

export interface JobRequest {
  graph: Graph;
  info: ObjectInfo;
  model: string;
  pullHint: string | undefined;
  signal: AbortSignal;
  /** The server's files or classes are not those it told of. */
  onStale: () => void;
}

/** A prompt that was sent, as far as it is known. */
interface Sent {
  id: string;
  /** Resolves when the server has taken it, rejects where it has not. */
  taken: Promise<void>;
  answered: boolean;
  /** The server is done with it, or never had it. */
  over: boolean;
}

/** Longest wait for the websocket; a job runs without it as well, only its progress is not seen. */
const SOCKET_MS = 2000;
/** Longest wait of somebody who leaves; the cancel itself is tried for longer. */
const LEAVE_MS = 800;
const CANCEL_TRIES = 12;
const LONGEST_PAUSE_MS = 5000;

/** Returns what history says of it. Throws where it failed, client_closed where the signal aborted; it is then taken back. */
export async function* runPrompt(parts: JobParts, request: JobRequest): AsyncGenerator<JobEvent, HistoryEntry> {
  const { socket } = parts;
  const mailbox = createMailbox<Heard>(request.signal);
  const first = crypto.randomUUID();
  const leave = [socket.listen(first, mailbox.put)];
  let sent: Sent | undefined;
  try {
    await mailbox.orLeave(socket.ready(SOCKET_MS));
    // Sending does not end with the caller: what has left this machine may be taken, and must then be cancelled.
    sent = send(parts, request, first);
    await mailbox.orLeave(sent.taken);
    const mine = sent;
    // Servers of 2025 may have chosen the id themselves.
    if (mine.id !== first) leave.push(socket.listen(mine.id, mailbox.put));
    return yield* follow(parts, { ...request, id: mine.id, mailbox, onOver: () => (mine.over = true) });
  } finally {
    for (const each of leave) each();
    mailbox.close();
    if (sent && !sent.over) await withdraw(parts, sent);
  }
}

function send({ client, socket }: JobParts, request: JobRequest, id: string): Sent {
  const { graph, model, pullHint, onStale } = request;
  const { upstream } = client;
  const post = async () => {
    const answer = await client.prompt({ graph, id, clientId: socket.clientId }).catch(async (error: unknown) => {
      // The answer is lost, which says nothing about the prompt: sent again it might run twice.
      const found = await look(client, id).catch(() => undefined);
      if (!found || found.at === 'missing') throw error;
      return { status: 200, body: JSON.stringify({ prompt_id: id }) };
    });
    if (answer.status === 200 && !hasNodeErrors(answer.body)) {
      const { prompt_id } = toObject(JSON.parse(answer.body));
      if (typeof prompt_id === 'string') sent.id = prompt_id;
      return;
    }
    // With 200, those of its outputs that are good wait to be run: that is not what was asked for.
    sent.over = answer.status !== 200;
    if (isStale(answer.body)) onStale();
    throw toRefusal(upstream, answer, { source: upstream.name, model, pullHint });
  };
  const sent: Sent = { id, taken: Promise.resolve(), answered: false, over: false };
  sent.taken = post().finally(() => (sent.answered = true));
  sent.taken.catch(() => {});
  return sent;
}

/** Resolves when the server has acknowledged it, or soon: it is then tried again behind the caller's back. */
async function withdraw({ client, background }: JobParts, sent: Sent): Promise<void> {
  const now = cancel(client, sent);
  // What it takes only after this cancel would never hear of it.
  const later = sent.answered ? undefined : sent.taken.catch(() => {}).then(() => cancel(client, sent));
  const work = Promise.all([now, later]).then(() => {});
  background(work);
  await Promise.race([work, pause(LEAVE_MS)]);
}

async function cancel(client: Client, sent: Sent): Promise<void> {
  for (let tries = 0; tries < CANCEL_TRIES && !sent.over; tries++) {
    try {
      return await client.cancel(sent.id);
    } catch {
      await pause(Math.min(LONGEST_PAUSE_MS, 100 * 2 ** tries));
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    // A process that is about to end does not wait for a server that does not answer.
    (timer as { unref?: () => void }).unref?.();
  });
}
