// `gpu`: the card: who holds it, who waits for it, what a request would come to, and lending it to a person.
import { defineGroup } from '../../command.ts';
import { hold, release } from './hold.ts';
import { log } from './log.ts';
import { plan } from './plan.ts';
import { show } from './show.ts';

export const gpu = defineGroup(
  'gpu',
  'The card: show it, or log, plan, hold, release',
  { log, plan, hold, release },
  show,
);
