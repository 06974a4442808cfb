// Who of those whose model is there begins now: as many as there are slots, and those first who go first.
import type { Card, Entry } from './card.ts';
import { first, take, type Group, type Order } from './groups.ts';
import type { Waiting } from './snapshot.ts';

export interface GrantRules {
  card: Card;
  /** In which order those go who wait for it. */
  orderOf: (entry: Entry) => Order;
  /** Somebody else goes before this one, though there is a slot. */
  isHeldBack: (entry: Entry, next: Waiting) => boolean;
}

/** Where so many may begin at once, they are put in order once; else the next is looked for each time. */
const FEW = 8;

/** Takes them out of their groups, which have been listed; models whose runtime has its own limit share what that leaves. */
export function grantAll(groups: readonly Group[], rules: GrantRules): Waiting[] {
  const { card } = rules;
  const lines = new Map<string | Group, Group[]>();
  for (const group of groups) {
    const { runtime } = group.oldest;
    const key = card.runtimeSlots(runtime) < Infinity ? runtime : group;
    const line = lines.get(key);
    if (line) line.push(group);
    else lines.set(key, [group]);
  }
  const granted: Waiting[] = [];
  for (const line of lines.values()) serve(line, rules, granted);
  return granted;
}

function serve(groups: readonly Group[], { card, orderOf, isHeldBack }: GrantRules, granted: Waiting[]): void {
  const sorted = new Set<Group>();
  const nextOf = (group: Group) =>
    sorted.has(group) ? group.waiters.at(-1) : first(group.waiters, orderOf(group.entry!));
  const nexts = new Map<Group, Waiting>();
  const see = (group: Group) => {
    const next = nextOf(group);
    if (next) nexts.set(group, next);
    else nexts.delete(group);
  };
  for (const group of groups) {
    const entry = group.entry!;
    if (Math.min(card.slotsOf(entry), group.waiters.length) > FEW && card.canUse(entry, group.largest)) {
      const order = orderOf(entry);
      // The first of them stands last, where it is taken away quickly.
      group.waiters.sort((a, b) => order(b, a));
      sorted.add(group);
    }
    see(group);
  }
  while (nexts.size > 0) {
    let best: Group | undefined;
    for (const [group, next] of nexts) {
      if (!best || orderOf(group.entry!)(next, nexts.get(best)!) < 0) best = group;
    }
    const [group, entry, next] = [best!, best!.entry!, nexts.get(best!)!];
    if (card.slotsOf(entry) <= 0 || isHeldBack(entry, next) || !card.canUse(entry, next)) {
      nexts.delete(group);
      continue;
    }
    card.use(entry, next);
    take(group, next);
    granted.push(next);
    see(group);
  }
}
