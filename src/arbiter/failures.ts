// What those who wait in vain are told.
import { GatewayError } from '../error.ts';

export function toRefusal({ because, remedy }: { because: string; remedy?: string }): GatewayError {
  return insufficient(`${because}.`, remedy === undefined ? {} : { remedy });
}

export function insufficient(
  message: string,
  { remedy, cause }: { remedy?: string; cause?: unknown } = {},
): GatewayError {
  return new GatewayError('insufficient_vram', message, {
    retryAfter: 30,
    hint: remedy ?? 'Choose a smaller model, or raise HONO_AI_VRAM if the card has more.',
    ...(cause === undefined ? {} : { cause }),
  });
}

export function cancelled(): GatewayError {
  return new GatewayError('client_closed', 'The request was cancelled while it waited for the card.');
}

export function queueTimeout(queueMs: number): GatewayError {
  return new GatewayError('overloaded', `The card was not free within ${Math.round(queueMs / 1000)} s.`, {
    retryAfter: 30,
    hint: 'Ask again later, or raise HONO_AI_QUEUE_MS.',
  });
}
