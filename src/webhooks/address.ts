// Which addresses a webhook may have.
import { GatewayError } from '../error.ts';
import type { SendHook } from './send.ts';

const MAX_LENGTH = 2000;

/** The address as it is called. Throws invalid_request, with `param`, for one that may not be used. */
export function toHookUrl(text: string, permits: SendHook['permits'], param: string): string {
  const url = text.length <= MAX_LENGTH && URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.hostname === '') {
    throw refuse('This is no address a webhook can be sent to.', 'It begins with https:// or http://.', param);
  }
  if (url.username !== '' || url.password !== '') {
    throw refuse('The address of a webhook holds no credentials.', 'Check the signature instead.', param);
  }
  if (!permits(url.hostname)) {
    throw refuse(
      'Webhooks are not sent to addresses inside the own network.',
      'The operator can allow one in HONO_AI_WEBHOOK_ALLOW.',
      param,
    );
  }
  url.hash = '';
  return url.href;
}

function refuse(message: string, hint: string, param: string): GatewayError {
  return new GatewayError('invalid_request', message, { hint, param });
}
