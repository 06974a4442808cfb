// Deliveries as their owner sees them, and another round for one that has ended.
import { GatewayError } from '../error.ts';
import type { Document, DocumentStore } from '../store.ts';
import {
  deliveryKinds,
  deliveryStates,
  toDeliveryView,
  toMove,
  type Delivery,
  type DeliveryState,
  type DeliveryView,
  type Hook,
} from './records.ts';

export interface DeliveryQuery {
  state?: DeliveryState;
  endpoint?: string;
  cursor?: string;
  limit: number;
}

export interface Deliveries {
  /** Pending, then dead, then delivered ones; the newest first within each. Throws invalid_request for a cursor that is none. */
  list(owner: string, query: DeliveryQuery): Promise<{ deliveries: DeliveryView[]; next?: string }>;
  /** Sends a dead or delivered one again under its own id, with the whole schedule. Throws not_found, conflict. */
  replay(owner: string, id: string): Promise<DeliveryView>;
}

export function createDeliveries(options: {
  documents: DocumentStore;
  now: () => number;
  wake: () => void;
}): Deliveries {
  const { documents, now, wake } = options;

  async function find(owner: string, id: string): Promise<Document<Delivery>> {
    for (const kind of deliveryKinds) {
      const document = await documents.get<Delivery>(kind, id);
      if (document?.owner === owner) return document;
    }
    throw new GatewayError('not_found', 'There is no such delivery.', {
      hint: 'GET /webhooks/deliveries lists yours.',
    });
  }

  return {
    async list(owner, { state, endpoint, cursor, limit }) {
      const kinds = state === undefined ? deliveryKinds : [deliveryKinds[deliveryStates.indexOf(state)]!];
      const place = toPlace(cursor);
      let at = place ? kinds.indexOf(place.kind as never) : 0;
      if (at < 0) throw badCursor();
      const deliveries: DeliveryView[] = [];
      let after = place?.after;
      for (; at < kinds.length && deliveries.length < limit; at++) {
        const page = await documents.list<Delivery>(kinds[at]!, {
          owner,
          limit: limit - deliveries.length,
          ...(endpoint === undefined ? {} : { ref: endpoint }),
          ...(after === undefined ? {} : { cursor: after }),
        });
        deliveries.push(...page.documents.map(toDeliveryView));
        if (page.next !== undefined) return { deliveries, next: `${kinds[at]}.${page.next}` };
        after = undefined;
      }
      return at < kinds.length ? { deliveries, next: `${kinds[at]}.` } : { deliveries };
    },
    async replay(owner, id) {
      const document = await find(owner, id);
      if (document.kind === 'delivery') throw conflict('This delivery waits for its next try already.');
      const { endpoint } = document.value;
      if (endpoint !== undefined) {
        const hook = await documents.get<Hook>('hook', endpoint);
        if (!hook) throw conflict('Its endpoint has been removed.');
        if (!hook.value.enabled) throw conflict('Its endpoint is disabled.', 'Enable it first.');
      }
      const value: Delivery = { ...document.value, step: 0 };
      if (await documents.put(toMove(document, 'delivery', value, now()))) {
        throw conflict('This delivery has changed just now.', 'Look at it again.');
      }
      wake();
      return toDeliveryView({ ...document, kind: 'delivery', value, due: now() });
    },
  };
}

/** `kind.place`: where the next page begins. */
function toPlace(cursor: string | undefined): { kind: string; after?: string } | undefined {
  if (cursor === undefined) return undefined;
  const [, kind, after] = /^(\w+)\.(.*)$/.exec(cursor) ?? [];
  if (kind === undefined) throw badCursor();
  return after ? { kind, after } : { kind };
}

function badCursor(): GatewayError {
  return new GatewayError('invalid_request', 'This is no place in this list.', {
    param: 'cursor',
    hint: 'Take next_cursor of the page before, with the same filters.',
  });
}

function conflict(message: string, hint?: string): GatewayError {
  return new GatewayError('conflict', message, hint === undefined ? {} : { hint });
}
