// The state directory: everything a gateway keeps, and which gateway owns it.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ofetch } from 'ofetch';

export function defaultStateDir(env: Record<string, string | undefined>): string {
  return join(env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state'), 'hono-ai');
}

/** Creates it for this user alone. */
export function openStateDir(path: string): string {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

/** The gateway that serves from a state directory, as it wrote itself down. */
export interface Owner {
  url: string;
  pid: number;
  /** What its /health answers; another one means the note is stale. */
  instance: string;
}

export function saveOwner(stateDir: string, owner: Owner): void {
  writeFileSync(join(stateDir, 'gateway.json'), JSON.stringify(owner), { mode: 0o600 });
}

/** Only one's own note: a later gateway may have written another. */
export function clearOwner(stateDir: string, instance: string): void {
  if (readOwner(stateDir)?.instance === instance) rmSync(join(stateDir, 'gateway.json'), { force: true });
}

/** The owner if it is alive: its process may be gone, and its port may be another program's by now. */
export async function findOwner(stateDir: string): Promise<Owner | undefined> {
  const owner = readOwner(stateDir);
  if (!owner) return undefined;
  try {
    const { instance } = await ofetch<{ instance?: string }>(`${owner.url}/health`, { retry: 0, timeout: 1000 });
    return instance === owner.instance ? owner : undefined;
  } catch {
    return undefined;
  }
}

function readOwner(stateDir: string): Owner | undefined {
  try {
    const owner = JSON.parse(readFileSync(join(stateDir, 'gateway.json'), 'utf8')) as Owner;
    return typeof owner.url === 'string' && typeof owner.instance === 'string' ? owner : undefined;
  } catch {
    return undefined;
  }
}
