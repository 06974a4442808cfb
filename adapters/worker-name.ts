// What a worker is called on a store, so that others on its machine can tell whether it still lives.
import { hostname } from 'node:os';

export function toWorkerName(instance: string): string {
  return `${hostname()} ${process.pid} ${instance}`;
}

/** Undefined for a worker of another machine. */
export function isWorkerAlive(worker: string, own: string): boolean | undefined {
  if (worker === own) return true;
  const [host, pid] = worker.split(' ');
  if (host !== hostname()) return undefined;
  // The same number in a container that was started anew: this process is not the one that is meant.
  if (Number(pid) === process.pid) return false;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === 'EPERM';
  }
}
