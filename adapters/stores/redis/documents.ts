// Documents in Redis: a hash each, and indices by owner, by what they point at and by due time.
import type { DocumentStore, Put } from '../../../src/store.ts';
import type { Link } from './link.ts';
import { createTexts, fromCursor, toCursor, toDocument, toPut } from './record.ts';

export function createDocuments(link: Link, now: () => number): DocumentStore {
  return {
    async put(puts: Put[]) {
      const { texts, keep } = createTexts();
      const args = { puts: puts.map((put) => toPut(put, keep)), now: now() };
      const [came, stands] = await link.run<['ok' | 'conflict', string[] | 'missing']>('put', args, texts);
      if (came === 'ok') return undefined;
      return { conflict: stands === 'missing' ? stands : toDocument(stands) };
    },
    async get<T>(kind: string, id: string) {
      const flat = await link.run<string[]>('document', { kind, id });
      return flat.length === 0 ? undefined : toDocument<T>(flat);
    },
    async list<T>(kind: string, query: { owner?: string; ref?: string; cursor?: string; limit: number }) {
      const { owner, ref, cursor, limit } = query;
      const index =
        ref !== undefined ? `dr:${kind}:${ref}` : owner !== undefined ? `do:${kind}:${owner}` : `dk:${kind}`;
      const [next, found] = await link.run<[string, string[][]]>('documents', {
        index: `${link.prefix}:${index}`,
        kind,
        // An index by owner holds nobody else's.
        owner: ref === undefined ? undefined : owner,
        before: fromCursor(cursor),
        limit,
      });
      const documents = found.map((flat) => toDocument<T>(flat));
      return next === '' ? { documents } : { documents, next: toCursor(next) };
    },
    async due<T>(kind: string, at: number, limit: number) {
      const found = await link.run<string[][]>('dueDocuments', { kind, now: at, limit });
      return found.map((flat) => toDocument<T>(flat));
    },
    async nextDue(kind) {
      const due = await link.run<string | null>('nextDue', { kind });
      return due === null ? undefined : Number(due);
    },
    countRef: (kind, ref) => link.run<number>('countRef', { kind, ref }),
  };
}
