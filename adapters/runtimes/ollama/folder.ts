// Where Ollama keeps its models, if that is on this machine.
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** `given`: by the configuration, and believed. Otherwise only a server on this machine can mean a folder of it. */
export function findModelsFolder(
  baseUrl: string,
  env: Record<string, string | undefined>,
  given?: string,
): string | undefined {
  if (given !== undefined) return given;
  const { hostname } = new URL(baseUrl);
  if (!/^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)) return undefined;
  // As its own service, Ollama is a user of the system with a home of its own.
  const folders = [join(homedir(), '.ollama', 'models'), '/usr/share/ollama/.ollama/models'];
  return [env['OLLAMA_MODELS'] || folders, folders].flat().find((folder) => existsSync(folder));
}
