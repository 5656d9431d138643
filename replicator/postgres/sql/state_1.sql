-- The schema `replicator` in a target database, version 1. Run by replicator.postgres.state in one transaction.

CREATE TABLE replicator.feed (
    connector text NOT NULL,
    feed text NOT NULL,                 -- 'forward' or 'reverse'
    epoch bigint NOT NULL,              -- raised by every take-over; jobs compare it
    lanes integer NOT NULL,
    holder text NOT NULL,               -- for people: host and process
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text,                         -- for people and for scripts: the workflow's state
    PRIMARY KEY (connector, feed)
) WITH (fillfactor = 50);
COMMENT ON TABLE replicator.feed IS 'One row for each feed into this database, and who writes it';

CREATE TABLE replicator.backend (
    connector text NOT NULL,
    feed text NOT NULL,
    pid integer NOT NULL,
    backend_start timestamptz NOT NULL, -- with pid: the same backend, not a later one of the same number
    epoch bigint NOT NULL,              -- under which it may write
    purpose text NOT NULL,
    PRIMARY KEY (connector, feed, pid)
);
COMMENT ON TABLE replicator.backend IS 'Sessions of the holder of each feed, which a successor ends first';

CREATE TABLE replicator.checkpoint (
    connector text NOT NULL,
    feed text NOT NULL,
    lane integer NOT NULL,
    epoch bigint NOT NULL,              -- the feed's, compared by this lane alone: a shared lock would need multixacts
    position text,                      -- as the source formats it; NULL: nothing applied yet
    commit_time double precision,       -- source commit time of the newest applied transaction, Unix seconds
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (connector, feed, lane)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE replicator.checkpoint IS 'Progress of each lane, committed together with the rows';

CREATE TABLE replicator.key_map (
    mapping text NOT NULL,
    old_key text[] NOT NULL,
    upgraded_key text[] NOT NULL,
    PRIMARY KEY (mapping, old_key),
    UNIQUE (mapping, upgraded_key)
);
COMMENT ON TABLE replicator.key_map IS 'The two keys of every row whose key changes; never edit by hand';

CREATE TABLE replicator.dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector text NOT NULL,
    feed text NOT NULL,
    mapping text NOT NULL,
    key text[] NOT NULL,
    source_schema text NOT NULL,
    source_table text NOT NULL,
    op text NOT NULL,
    position text NOT NULL,
    kind text NOT NULL,
    message text NOT NULL,
    before jsonb,
    after jsonb,
    request text CHECK (request IN ('retry', 'discard')),
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    discarded_at timestamptz            -- NULL: it waits, and blocks its key; one that was applied is removed
);
CREATE INDEX dead_letter_waiting ON replicator.dead_letter (connector, feed, id) WHERE discarded_at IS NULL;
COMMENT ON TABLE replicator.dead_letter IS 'Changes set aside; `replicator dlq` lists, retries and discards them';

CREATE TABLE replicator.deferred (
    connector text NOT NULL,
    feed text NOT NULL,
    mapping text NOT NULL,
    key text[] NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (connector, feed, mapping, key)
);
COMMENT ON TABLE replicator.deferred IS 'Aggregates to derive again from the source once the feed has caught up';

CREATE TABLE replicator.copied_table (
    connector text NOT NULL,
    feed text NOT NULL,
    job text NOT NULL,                  -- 'backfill' or 'resync'
    mapping text NOT NULL,
    rows bigint NOT NULL DEFAULT 0,     -- of chunks that were folded into this row
    insert_lsn bigint NOT NULL DEFAULT 0,
    complete boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (connector, feed, job, mapping)
);
CREATE TABLE replicator.copied_chunk (
    connector text NOT NULL,
    feed text NOT NULL,
    job text NOT NULL,
    mapping text NOT NULL,
    number bigint NOT NULL,
    after text[],                       -- NULL: open
    upto text[],
    rows bigint NOT NULL,
    insert_lsn bigint NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (connector, feed, job, mapping, number)
);
COMMENT ON TABLE replicator.copied_chunk IS 'Key ranges that a backfill or a resync has copied';

CREATE TABLE replicator.multiset_cut (
    connector text NOT NULL,
    feed text NOT NULL,
    mapping text NOT NULL,
    source_schema text NOT NULL,
    source_table text NOT NULL,
    snapshot text NOT NULL,
    lsn bigint NOT NULL,
    PRIMARY KEY (connector, feed, mapping)
);
COMMENT ON TABLE replicator.multiset_cut IS 'Snapshots of copied tables without a key: their events are in the copy';

CREATE TABLE replicator.schema_seen (
    connector text NOT NULL,
    feed text NOT NULL,
    side text NOT NULL,                 -- 'source' or 'target'
    content text NOT NULL,              -- what matters of its mapped tables, as the last look saw them
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (connector, feed, side)
);
COMMENT ON TABLE replicator.schema_seen IS 'Tables as they were, to notice what changes without an event';

CREATE TABLE replicator.stale_mapping (
    connector text NOT NULL,
    feed text NOT NULL,
    mapping text NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (connector, feed, mapping)
);
COMMENT ON TABLE replicator.stale_mapping IS 'What needs `replicator resync`: rows that may have changed without an event';

CREATE TABLE replicator.request (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector text NOT NULL,
    feed text NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'running', 'done', 'failed')),
    message text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX request_open ON replicator.request (connector, feed, id) WHERE status IN ('new', 'running');
COMMENT ON TABLE replicator.request IS 'What the command line asks of the running daemon; told by NOTIFY replicator';
