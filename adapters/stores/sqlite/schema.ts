// The tables, as the migrations that lead to them: every version of the schema is the one before and one more of these.

/** Written into the file's header: whose file it is. */
export const APPLICATION_ID = 0x686f6169;

/** A state is kept as its place here. */
export const states = ['queued', 'running', 'done', 'failed', 'cancelled'] as const;

/**
 * `migrations[n]` leads from version n to n + 1. What has been released is never changed: a change is one more of these.
 *
 * A job's `wait` says where it stands: 0 it does not wait, 1 it may start, 2 not before `run_at`. Every query that the
 * gateway asks often has an index that holds only the rows it is about, so its cost does not grow with the table.
 * What was asked and what came out are tables of their own: a row that changes often must not carry megabytes along.
 */
export const migrations: readonly string[] = [
  `
  CREATE TABLE job (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    capability TEXT NOT NULL,
    model TEXT,
    class INTEGER NOT NULL,
    state INTEGER NOT NULL,
    wait INTEGER NOT NULL,
    tag INTEGER,
    batch TEXT,
    place INTEGER,
    created_at INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    queue_limit INTEGER NOT NULL,
    run_limit INTEGER NOT NULL,
    total_limit INTEGER NOT NULL,
    since INTEGER NOT NULL,
    deadline INTEGER,
    fence INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    beat INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    notes TEXT NOT NULL,
    error TEXT
  );
  CREATE INDEX job_ready ON job (class, tag, seq) WHERE wait = 1;
  CREATE INDEX job_turn ON job (class, owner, tag) WHERE wait = 1;
  CREATE INDEX job_later ON job (class, run_at, seq) WHERE wait = 2;
  CREATE INDEX job_deadline ON job (deadline) WHERE wait > 0;
  CREATE INDEX job_running ON job (seq) WHERE state = 1;
  CREATE INDEX job_ended ON job (finished_at, seq) WHERE state > 1;
  CREATE INDEX job_owner ON job (owner, state, seq);
  CREATE INDEX job_capability ON job (owner, capability, state, seq);
  CREATE INDEX job_batch ON job (batch, state, seq) WHERE batch IS NOT NULL;
  CREATE INDEX job_place ON job (batch, place) WHERE batch IS NOT NULL;

  CREATE TABLE input (seq INTEGER PRIMARY KEY REFERENCES job ON DELETE CASCADE, value TEXT);
  CREATE TABLE result (seq INTEGER PRIMARY KEY REFERENCES job ON DELETE CASCADE, value TEXT NOT NULL);

  -- Every number that is counted, in one table: they change with most commits, and share a page then.
  --   jobs, state; batch ID, state; queue, owner: how many jobs there are, and how many of each caller wait.
  --   turn, class: the tag of the job claimed last, where callers that come now begin.
  --   job, document: the number given last. It is also a document's version: one that is made anew never has one it had.
  --   news: grows with what another process should look at: a job that waits, a mark on one that runs.
  CREATE TABLE tally (scope TEXT NOT NULL, key NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (scope, key)) WITHOUT ROWID;
  INSERT INTO tally VALUES
    ('jobs', 0, 0), ('jobs', 1, 0), ('jobs', 2, 0), ('jobs', 3, 0), ('jobs', 4, 0),
    ('turn', 0, 0), ('turn', 1, 0), ('turn', 2, 0), ('job', 0, 0), ('document', 0, 0), ('news', 0, 0);
  CREATE TRIGGER job_added AFTER INSERT ON job BEGIN
    UPDATE tally SET n = n + 1 WHERE scope = 'jobs' AND key = new.state;
  END;
  CREATE TRIGGER job_changed AFTER UPDATE OF state ON job WHEN new.state <> old.state BEGIN
    UPDATE tally SET n = n - 1 WHERE scope = 'jobs' AND key = old.state;
    UPDATE tally SET n = n + 1 WHERE scope = 'jobs' AND key = new.state;
  END;
  CREATE TRIGGER job_removed AFTER DELETE ON job BEGIN
    UPDATE tally SET n = n - 1 WHERE scope = 'jobs' AND key = old.state;
  END;
  CREATE TRIGGER batch_added AFTER INSERT ON job WHEN new.batch IS NOT NULL BEGIN
    INSERT INTO tally VALUES ('batch ' || new.batch, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER batch_changed AFTER UPDATE OF state ON job WHEN new.batch IS NOT NULL AND new.state <> old.state BEGIN
    INSERT INTO tally VALUES ('batch ' || new.batch, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    UPDATE tally SET n = n - 1 WHERE scope = 'batch ' || new.batch AND key = old.state;
    DELETE FROM tally WHERE scope = 'batch ' || new.batch AND key = old.state AND n = 0;
  END;
  CREATE TRIGGER batch_removed AFTER DELETE ON job WHEN old.batch IS NOT NULL BEGIN
    UPDATE tally SET n = n - 1 WHERE scope = 'batch ' || old.batch AND key = old.state;
    DELETE FROM tally WHERE scope = 'batch ' || old.batch AND key = old.state AND n = 0;
  END;
  CREATE TRIGGER queue_added AFTER INSERT ON job WHEN new.state = 0 BEGIN
    INSERT INTO tally VALUES ('queue', new.owner, 1) ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER queue_joined AFTER UPDATE OF state ON job WHEN new.state = 0 AND old.state <> 0 BEGIN
    INSERT INTO tally VALUES ('queue', new.owner, 1) ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER queue_left AFTER UPDATE OF state ON job WHEN new.state <> 0 AND old.state = 0 BEGIN
    UPDATE tally SET n = n - 1 WHERE scope = 'queue' AND key = old.owner;
    DELETE FROM tally WHERE scope = 'queue' AND key = old.owner AND n = 0;
  END;

  CREATE TABLE document (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    due INTEGER,
    ref TEXT,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    value TEXT,
    UNIQUE (kind, id)
  );
  CREATE INDEX document_kind ON document (kind, seq);
  CREATE INDEX document_owner ON document (kind, owner, seq);
  CREATE INDEX document_ref ON document (kind, ref, seq) WHERE ref IS NOT NULL;
  CREATE INDEX document_due ON document (kind, due, seq) WHERE due IS NOT NULL;
  `,
];
