// What a name may stand for: one model, or several in the order in which they are tried.
import type { Choice } from './views.ts';

/** Every form of a choice in its longest one. */
export function toList(choice: Choice): { models: string[]; prefer: 'order' | 'warm' } {
  if (typeof choice === 'string') return { models: [choice], prefer: 'order' };
  return Array.isArray(choice) ? { models: choice, prefer: 'order' } : choice;
}

/** The way around, from a name back to itself; undefined where every name leads on. */
export function findCircle(aliases: ReadonlyMap<string, Choice>): string[] | undefined {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (name: string): string[] | undefined => {
    if (path.includes(name)) return [...path.slice(path.indexOf(name)), name];
    const choice = aliases.get(name);
    if (choice === undefined || done.has(name)) return undefined;
    path.push(name);
    for (const member of toList(choice).models) {
      const circle = visit(member);
      if (circle) return circle;
    }
    path.pop();
    done.add(name);
    return undefined;
  };
  for (const name of aliases.keys()) {
    const circle = visit(name);
    if (circle) return circle;
  }
  return undefined;
}
