// Everything that a store must do, as plain functions that run on any host.
import { changeCases } from './store-cases-changes.ts';
import { documentCases } from './store-cases-documents.ts';
import type { StoreCase } from './store-cases-helpers.ts';
import { listCases } from './store-cases-lists.ts';
import { modelCases } from './store-cases-model.ts';
import { orderCases } from './store-cases-order.ts';
import { stateCases } from './store-cases-states.ts';

export const storeCases: readonly StoreCase[] = [
  ...orderCases,
  ...stateCases,
  ...listCases,
  ...documentCases,
  ...changeCases,
  ...modelCases,
];
