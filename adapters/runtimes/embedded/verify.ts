// Checks the built-in models against SHA256SUMS before they are first used.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../../../src/error.ts';

/** `verify('tiny-story')` resolves once the files of that folder are known to be whole; it reads them only once. */
export function createVerifier(modelsDir: string) {
  const checks = new Map<string, Promise<void>>();
  return function verify(id: string): Promise<void> {
    let check = checks.get(id);
    if (!check) {
      check = checkFolder(modelsDir, id);
      checks.set(id, check);
      // A folder that was repaired must not stay damaged until a restart.
      check.catch(() => checks.delete(id));
    }
    return check;
  };
}

async function checkFolder(modelsDir: string, id: string): Promise<void> {
  const sums = await readFile(join(modelsDir, 'SHA256SUMS'), 'utf8').catch((cause: unknown) => {
    throw damaged(`The built-in model ${id} is missing.`, cause);
  });
  const lines = sums.split('\n').flatMap((line) => {
    const [, sum, path] = /^([0-9a-f]{64}) [ *](?:\.\/)?(.+)$/.exec(line) ?? [];
    return sum && path?.startsWith(`${id}/`) && !path.endsWith('.gguf') ? [{ sum, path }] : [];
  });
  for (const { sum, path } of lines) {
    const bytes = await readFile(join(modelsDir, path)).catch((cause: unknown) => {
      throw damaged(`The built-in model ${id} is incomplete: ${path} is missing.`, cause);
    });
    if (createHash('sha256').update(bytes).digest('hex') !== sum) {
      throw damaged(`The built-in model ${id} is damaged: ${path} is not the file that was shipped.`);
    }
  }
}

function damaged(message: string, cause?: unknown): GatewayError {
  return new GatewayError('model_unavailable', message, {
    source: 'embedded',
    hint: 'Restore the models folder of this installation, for example with: git checkout -- models',
    cause,
  });
}
