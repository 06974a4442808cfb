// Documents: kept, changed under a condition, found by owner, reference and due time.
import assert from 'node:assert/strict';
import type { DocumentStore } from '../../src/store.ts';
import { toCase, toPut, type StoreCase } from './store-cases-helpers.ts';

export const documentCases: readonly StoreCase[] = [
  toCase('gives a document back as it was put', async ({ documents }, subject) => {
    const before = Date.now();
    await documents.put([toPut('a', { due: 5, ref: 'r', value: { x: [1, null] } }), toPut('b', { value: null })]);
    const kept = await (await subject.open()).documents.get('thing', 'a');
    assert.ok(kept);
    const { version, createdAt, ...rest } = kept;
    assert.deepEqual(rest, { kind: 'thing', id: 'a', owner: 'anna', value: { x: [1, null] }, due: 5, ref: 'r' });
    assert.equal(typeof version, 'number');
    assert.ok(createdAt >= before && createdAt <= Date.now());
    const plain = (await documents.get('thing', 'b'))!;
    assert.equal(plain.value, null);
    assert.ok(plain.due === undefined && plain.ref === undefined);
    assert.equal(await documents.get('thing', 'none'), undefined);
    assert.equal(await documents.get('other', 'a'), undefined);
  }),
  toCase('changes a document: a new version, the same age, nothing left of before', async ({ documents }) => {
    await documents.put([toPut('a', { due: 5, ref: 'r' })]);
    const first = (await documents.get('thing', 'a'))!;
    await documents.put([toPut('a', { value: 'new' })]);
    const second = (await documents.get('thing', 'a'))!;
    assert.ok(second.version > first.version);
    assert.equal(second.createdAt, first.createdAt);
    assert.equal(second.value, 'new');
    assert.equal(second.due, undefined);
    assert.equal(await documents.nextDue('thing'), undefined);
    assert.equal(await documents.countRef('thing', 'r'), 0);
  }),
  toCase('puts what must be absent once', async ({ documents }) => {
    assert.equal(await documents.put([toPut('a', { if: 'absent', value: 1 })]), undefined);
    const answer = await documents.put([toPut('b'), toPut('a', { if: 'absent', value: 2 })]);
    assert.ok(answer && answer.conflict !== 'missing');
    assert.equal(answer.conflict.value, 1);
    assert.equal(await documents.get('thing', 'b'), undefined);
  }),
  toCase('changes only the version that was seen', async ({ documents }) => {
    await documents.put([toPut('a', { value: 1 })]);
    const { version } = (await documents.get('thing', 'a'))!;
    assert.equal(await documents.put([toPut('a', { value: 2, if: version })]), undefined);
    const stale = await documents.put([toPut('a', { value: 3, if: version })]);
    assert.ok(stale && stale.conflict !== 'missing');
    assert.equal(stale.conflict.value, 2);
    assert.deepEqual(await documents.put([toPut('none', { if: version })]), { conflict: 'missing' });
    assert.equal((await documents.get('thing', 'a'))!.value, 2);
  }),
  toCase('deletes, at all or only the version that was seen', async ({ documents }) => {
    await documents.put([toPut('a'), toPut('b')]);
    const { version } = (await documents.get('thing', 'a'))!;
    await documents.put([toPut('a', { value: 2 })]);
    const stale = await documents.put([
      { kind: 'thing', id: 'b', delete: true },
      { kind: 'thing', id: 'a', delete: true, if: version },
    ]);
    assert.ok(stale, 'a stale delete was carried out');
    assert.ok(await documents.get('thing', 'b'), 'half of a refused change was made');
    const current = (await documents.get('thing', 'a'))!.version;
    assert.equal(await documents.put([{ kind: 'thing', id: 'a', delete: true, if: current }]), undefined);
    assert.equal(await documents.get('thing', 'a'), undefined);
    assert.equal(await documents.put([{ kind: 'thing', id: 'a', delete: true }]), undefined);
    assert.deepEqual(await documents.put([{ kind: 'thing', id: 'a', delete: true, if: current }]), {
      conflict: 'missing',
    });
  }),
  toCase('never takes a document that was made anew for the one before', async ({ documents }) => {
    await documents.put([toPut('a', { value: 1 })]);
    const { version } = (await documents.get('thing', 'a'))!;
    await documents.put([{ kind: 'thing', id: 'a', delete: true }]);
    await documents.put([toPut('a', { value: 2 })]);
    const answer = await documents.put([toPut('a', { value: 3, if: version })]);
    assert.ok(answer, 'a change was made on another document than the one that was seen');
    assert.equal((await documents.get('thing', 'a'))!.value, 2);
  }),
  toCase('lets one of many win who change the same version at a time', async (store, subject) => {
    const other = await subject.open();
    await store.documents.put([toPut('n', { value: 0 })]);
    const add = async ({ documents }: { documents: DocumentStore }) => {
      for (;;) {
        const { version, value } = (await documents.get<number>('thing', 'n'))!;
        if (!(await documents.put([toPut('n', { value: value + 1, if: version })]))) return;
      }
    };
    await Promise.all(Array.from({ length: 30 }, (_, n) => add(n % 2 ? store : other)));
    assert.equal((await store.documents.get('thing', 'n'))!.value, 30);
  }),
  toCase('lists documents by kind, owner and reference, the newest first', async ({ documents }) => {
    for (let n = 0; n < 12; n++) {
      await documents.put([toPut(`d${n}`, { owner: n % 2 ? 'ben' : 'anna', ...(n % 3 ? {} : { ref: 'r' }) })]);
    }
    await documents.put([toPut('x', { kind: 'other', ref: 'r' })]);
    const find = (query: { owner?: string; ref?: string }) => toAll(documents, query);
    assert.deepEqual(
      await find({}),
      [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((n) => `d${n}`),
    );
    assert.deepEqual(await find({ owner: 'anna' }), ['d10', 'd8', 'd6', 'd4', 'd2', 'd0']);
    assert.deepEqual(await find({ ref: 'r' }), ['d9', 'd6', 'd3', 'd0']);
    assert.deepEqual(await find({ owner: 'ben', ref: 'r' }), ['d9', 'd3']);
    assert.deepEqual(await find({ owner: 'cleo' }), []);
    assert.deepEqual(await find({ ref: 'none' }), []);
  }),
  toCase('pages through documents while some come and go', async ({ documents }) => {
    for (let n = 0; n < 30; n++) await documents.put([toPut(`d${n}`)]);
    const seen: string[] = [];
    const gone = new Set<string>();
    let cursor: string | undefined;
    for (let n = 0; ; n++) {
      const page = await documents.list('thing', {
        owner: 'anna',
        limit: 7,
        ...(cursor === undefined ? {} : { cursor }),
      });
      seen.push(...page.documents.map(({ id }) => id));
      cursor = page.next;
      if (cursor === undefined) break;
      const last = page.documents.at(-1)!.id;
      gone.add(last);
      await documents.put([{ kind: 'thing', id: last, delete: true }, toPut(`new${n}`), toPut('d3', { value: n })]);
    }
    assert.deepEqual(
      seen,
      Array.from({ length: 30 }, (_, n) => `d${29 - n}`),
    );
  }),
  toCase('finds what is due, the earliest first', async ({ documents }) => {
    assert.equal(await documents.nextDue('thing'), undefined);
    await documents.put([
      toPut('late', { due: 300 }),
      toPut('soon', { due: 100 }),
      toPut('mid', { due: 200 }),
      toPut('never'),
    ]);
    await documents.put([toPut('other', { kind: 'other', due: 50 })]);
    const due = async (now: number, limit = 10) => (await documents.due('thing', now, limit)).map(({ id }) => id);
    assert.equal(await documents.nextDue('thing'), 100);
    assert.deepEqual(await due(99), []);
    assert.deepEqual(await due(100), ['soon']);
    assert.deepEqual(await due(1000), ['soon', 'mid', 'late']);
    assert.deepEqual(await due(1000, 2), ['soon', 'mid']);
    await documents.put([toPut('soon', { due: 250 })]);
    assert.deepEqual(await due(1000), ['mid', 'soon', 'late']);
    await documents.put([{ kind: 'thing', id: 'mid', delete: true }]);
    assert.equal(await documents.nextDue('thing'), 250);
  }),
  toCase('counts what points at something', async ({ documents }) => {
    await documents.put([
      toPut('a', { ref: 'r' }),
      toPut('b', { ref: 'r' }),
      toPut('c', { ref: 's' }),
      toPut('d', { kind: 'other', ref: 'r' }),
    ]);
    assert.equal(await documents.countRef('thing', 'r'), 2);
    await documents.put([{ kind: 'thing', id: 'a', delete: true }, toPut('c', { ref: 'r' })]);
    assert.equal(await documents.countRef('thing', 'r'), 2);
    assert.equal(await documents.countRef('thing', 's'), 0);
    assert.equal(await documents.countRef('thing', 'none'), 0);
  }),
];

async function toAll(documents: DocumentStore, query: { owner?: string; ref?: string }): Promise<string[]> {
  const ids: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await documents.list('thing', { ...query, limit: 5, ...(cursor === undefined ? {} : { cursor }) });
    ids.push(...page.documents.map(({ id }) => id));
    cursor = page.next;
  } while (cursor !== undefined);
  return ids;
}
