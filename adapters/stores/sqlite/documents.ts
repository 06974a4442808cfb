// Documents: small JSON values that are found by owner, by what they point at, and by when something is due.
import type { DatabaseSync } from 'node:sqlite';
import type { Document, DocumentStore, Put } from '../../../src/store.ts';
import { fromCursor, toCursor, toDocument, toJson, type DocumentRow } from './rows.ts';
import type { Writer } from './writer.ts';

export interface Documents extends DocumentStore {
  /** `put` inside a transaction of the caller's. */
  apply(puts: readonly Put[]): { conflict: Document | 'missing' } | undefined;
}

export function createDocuments(options: {
  db: DatabaseSync;
  writer: Writer;
  read: <T>(query: () => T) => Promise<T>;
  now: () => number;
}): Documents {
  const { db, writer, read, now } = options;
  const find = db.prepare('SELECT * FROM document WHERE kind = ? AND id = ?');
  const change = db.prepare("UPDATE tally SET n = n + 1 WHERE scope = 'document' AND key = 0 RETURNING n");
  const save = db.prepare(
    `INSERT INTO document (seq, kind, id, owner, due, ref, version, created_at, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (kind, id) DO UPDATE SET owner = excluded.owner, due = excluded.due, ref = excluded.ref,
       version = excluded.version, value = excluded.value`,
  );
  const remove = db.prepare('DELETE FROM document WHERE kind = ? AND id = ?');
  const dueNow = db.prepare(
    'SELECT * FROM document WHERE kind = ? AND due IS NOT NULL AND due <= ? ORDER BY due, seq LIMIT ?',
  );
  const firstDue = db.prepare('SELECT due FROM document WHERE kind = ? AND due IS NOT NULL ORDER BY due LIMIT 1');
  const byRef = db.prepare('SELECT count(*) AS n FROM document WHERE kind = ? AND ref = ?');
  const page = 'SELECT * FROM document WHERE kind = :kind AND seq < :before';
  const lists = {
    all: db.prepare(`${page} ORDER BY seq DESC LIMIT :limit`),
    owner: db.prepare(`${page} AND owner = :owner ORDER BY seq DESC LIMIT :limit`),
    ref: db.prepare(`${page} AND ref = :ref ORDER BY seq DESC LIMIT :limit`),
    both: db.prepare(`${page} AND ref = :ref AND +owner = :owner ORDER BY seq DESC LIMIT :limit`),
  };

  const get = <T>(kind: string, id: string): Document<T> | undefined => {
    const row = find.get(kind, id) as DocumentRow | undefined;
    return row && toDocument<T>(row);
  };

  /** What stands against a change, if anything does. */
  function toConflict(put: Put): Document | 'missing' | undefined {
    if (put.if === undefined) return undefined;
    const there = get(put.kind, put.id);
    if (put.if === 'absent') return there;
    if (!there) return 'missing';
    return there.version === put.if ? undefined : there;
  }

  function apply(puts: readonly Put[]): { conflict: Document | 'missing' } | undefined {
    // All conditions before any change: where one does not hold there is nothing to take back.
    for (const put of puts) {
      const conflict = toConflict(put);
      if (conflict) return { conflict };
    }
    for (const put of puts) {
      if ('delete' in put) {
        remove.run(put.kind, put.id);
        continue;
      }
      const { n } = change.get() as { n: number };
      save.run(n, put.kind, put.id, put.owner, put.due ?? null, put.ref ?? null, n, now(), toJson(put.value));
    }
    return undefined;
  }

  return {
    apply,
    put: (puts) => writer.write(() => apply(puts)),
    get: <T>(kind: string, id: string) => read(() => get<T>(kind, id)),
    list: <T>(kind: string, query: { owner?: string; ref?: string; cursor?: string; limit: number }) =>
      read(() => {
        const { owner, ref, cursor, limit } = query;
        const by = ref === undefined ? (owner === undefined ? 'all' : 'owner') : owner === undefined ? 'ref' : 'both';
        const rows = lists[by].all({
          kind,
          before: fromCursor(cursor),
          limit: limit + 1,
          ...(owner !== undefined && { owner }),
          ...(ref !== undefined && { ref }),
        }) as unknown as DocumentRow[];
        const documents = rows.slice(0, limit).map((row) => toDocument<T>(row));
        return rows.length > limit ? { documents, next: toCursor(rows[limit - 1]!.seq) } : { documents };
      }),
    due: <T>(kind: string, now: number, limit: number) =>
      read(() => (dueNow.all(kind, now, limit) as unknown as DocumentRow[]).map((row) => toDocument<T>(row))),
    nextDue: (kind) => read(() => (firstDue.get(kind) as { due: number } | undefined)?.due),
    countRef: (kind, ref) => read(() => (byRef.get(kind, ref) as { n: number }).n),
  };
}
