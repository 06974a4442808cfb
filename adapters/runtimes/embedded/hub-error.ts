// What can go wrong between this machine and the hub, in words for the caller.
import { join } from 'node:path';
import { GatewayError } from '../../../src/error.ts';
import { showPath } from './models.ts';

const STALLED = 'nothing arrived in time';

export function stalled(): Error {
  return new Error(STALLED);
}

export function isStall(error: unknown): boolean {
  return error instanceof Error && error.message === STALLED;
}

/** What went wrong with a download, in words for the caller. */
export function toDownloadError(error: unknown, id: string, cacheDir: string): GatewayError {
  if (error instanceof GatewayError) return error;
  const elsewhere = `Check the network, set HF_ENDPOINT to a mirror, or copy the model to ${showPath(join(cacheDir, id))}.`;
  const unavailable = (message: string, hint: string) =>
    new GatewayError('model_unavailable', message, { source: 'embedded', hint, retryAfter: 30, cause: error });
  const codes = errorCodes(error);
  if (codes.includes('ENOSPC') || codes.includes('EDQUOT')) {
    return new GatewayError('storage_full', `There is no room on disk for ${id}.`, {
      source: 'embedded',
      hint: 'Free some space, or move the model cache to a larger disk.',
      cause: error,
    });
  }
  if (codes.some((code) => ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR'].includes(code))) {
    return unavailable(
      `The model cache cannot be written, so ${id} could not be kept.`,
      `Make ${showPath(cacheDir)} writable.`,
    );
  }
  if (isStall(error)) {
    return unavailable(`The download of ${id} stalled: the Hugging Face hub sent nothing for too long.`, elsewhere);
  }
  const why = /ENOTFOUND|EAI_AGAIN|dns error|getaddrinfo|failed to lookup/i.test(
    String(error instanceof Error ? (error.cause ?? error) : error) + codes.join(),
  )
    ? ': its name cannot be resolved'
    : '';
  return unavailable(`The Hugging Face hub cannot be reached${why}, so ${id} could not be downloaded.`, elsewhere);
}

function errorCodes(error: unknown): string[] {
  const codes: string[] = [];
  for (let each = error, depth = 0; each instanceof Error && depth < 4; each = each.cause, depth++) {
    if ('code' in each && typeof each.code === 'string') codes.push(each.code);
  }
  return codes;
}

export function refused(response: Response, id: string): GatewayError {
  void response.body?.cancel();
  const details = { source: 'embedded' } as const;
  const reason = response.headers.get('x-error-code');
  if (response.status === 404 || reason === 'RepoNotFound') return noSuchFile(id, '');
  if (response.status === 401 || response.status === 403) {
    return new GatewayError('model_unavailable', `The Hugging Face hub does not give ${id} to this gateway.`, {
      ...details,
      hint: 'Accept the terms of the model on the hub, and set HF_TOKEN to a token that may read it.',
      retry: false,
    });
  }
  return new GatewayError(
    'model_unavailable',
    `The Hugging Face hub answered with status ${response.status} for ${id}.`,
    {
      ...details,
      hint: 'Try again later, or set HF_ENDPOINT to a mirror.',
      retryAfter: 30,
    },
  );
}

export function noSuchFile(id: string, path: string): GatewayError {
  return new GatewayError('model_not_found', `The Hugging Face hub has no ${path ? `${path} for ` : ''}${id}.`, {
    source: 'embedded',
    hint: 'Check HF_ENDPOINT: a mirror may not carry this model.',
  });
}

export function brokenDownload(id: string, cause?: unknown): GatewayError {
  return new GatewayError('model_unavailable', `The download of ${id} was cut off or damaged.`, {
    source: 'embedded',
    hint: 'Ask again: complete files are kept, and only the broken one is fetched anew.',
    retryAfter: 5,
    cause,
  });
}
