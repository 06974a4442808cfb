// Group commit: what is written within one turn of the event loop shares one transaction, and so one wait for the disk.
import type { DatabaseSync } from 'node:sqlite';
import { setImmediate } from 'node:timers';
import { setTimeout as sleep } from 'node:timers/promises';
import { BUSY_MS } from './database.ts';
import { closed, isBusy, toSqliteCode, toStoreError } from './failure.ts';

export interface Writer {
  /**
   * Runs `operation` in a transaction; resolves with what it returns once that is on disk. `operation` may run twice, so
   * it touches nothing but the database. Where it throws, it has changed nothing. Throws `storage_full`, `storage_unavailable`.
   */
  write<T>(operation: () => T): Promise<T>;
  /** What went wrong with the last write, until one succeeds. */
  failure(): unknown;
  /** Refuses what comes from now on; resolves when everything asked before is on disk. */
  close(): Promise<void>;
}

interface Task {
  operation: () => unknown;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
}

/** More in one transaction would keep other processes waiting for long. */
const MOST = 500;
/** Longest wait for other processes that write, in milliseconds. */
const WAIT_MS = 15_000;

export function createWriter(db: DatabaseSync, path: string, waitMs = WAIT_MS): Writer {
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  const waiting: Task[] = [];
  let flushing: Promise<void> | undefined;
  let ended = false;
  let failed: unknown;

  async function flush(): Promise<void> {
    while (waiting.length > 0) {
      const busy = await enter();
      // Whoever came while another process wrote goes along.
      if (busy !== undefined) refuse(waiting.splice(0), busy);
      else commitAll(waiting.splice(0, MOST));
      await nextTurn();
    }
    flushing = undefined;
  }

  /**
   * Begins, or tells why that cannot be. SQLite itself waits by sleeping, which stops everything here, and looks ten times
   * a second, which is too seldom to ever find the gap between two commits of a process that writes all the time.
   */
  async function enter(): Promise<unknown> {
    const start = performance.now();
    for (;;) {
      const error = tryBegin();
      const waited = performance.now() - start;
      if (error === undefined || !isBusy(error) || waited > waitMs) return error;
      await sleep(1 + Math.random() * Math.min(4, waited / 10));
    }
  }

  function tryBegin(): unknown {
    try {
      db.exec('PRAGMA busy_timeout = 0');
      try {
        begin.run();
      } finally {
        db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
      }
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** In a transaction that has begun. */
  function commitAll(tasks: Task[]): void {
    const values: unknown[] = [];
    try {
      for (const task of tasks) values.push(task.operation());
    } catch (error) {
      rollback(db);
      if (tasks.length === 1) return refuse(tasks, error);
      // One that throws must not spoil the others: each gets a transaction of its own.
      return tasks.forEach(commitAlone);
    }
    try {
      commit.run();
    } catch (error) {
      rollback(db);
      return refuse(tasks, error);
    }
    failed = undefined;
    for (const [n, { resolve }] of tasks.entries()) resolve(values[n]);
  }

  function commitAlone(task: Task): void {
    try {
      begin.run();
    } catch (error) {
      return refuse([task], error);
    }
    commitAll([task]);
  }

  function refuse(tasks: readonly Task[], error: unknown): void {
    if (toSqliteCode(error) !== undefined) failed = error;
    for (const { reject } of tasks) reject(toStoreError(error, path));
  }

  return {
    write<T>(operation: () => T) {
      return new Promise<T>((resolve, reject) => {
        if (ended) return reject(closed());
        waiting.push({ operation, resolve: resolve as (value: unknown) => void, reject });
        flushing ??= nextTurn().then(flush);
      });
    },
    failure: () => failed,
    async close() {
      ended = true;
      await flushing;
    },
  };
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

function rollback(db: DatabaseSync): void {
  try {
    db.exec('ROLLBACK');
  } catch {
    // SQLite has rolled back itself, or nothing had begun.
  }
}
