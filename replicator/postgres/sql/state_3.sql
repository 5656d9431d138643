-- Version 3: verification. Upgrades version 2 in place.

CREATE TABLE replicator.verification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector text NOT NULL,
    feed text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,            -- NULL: it runs, or was interrupted and goes on when it is asked for again
    scope jsonb NOT NULL,               -- what it looks at; a run goes on only with the same one
    progress jsonb NOT NULL DEFAULT '{}', -- by mapping
    result jsonb                        -- its report
);
CREATE INDEX verification_newest ON replicator.verification (connector, feed, id);
COMMENT ON TABLE replicator.verification IS 'Comparisons of both databases, and how far each has come';

CREATE TABLE replicator.divergence (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector text NOT NULL,
    feed text NOT NULL,
    mapping text NOT NULL,
    table_schema text NOT NULL,         -- of the upgraded side
    table_name text NOT NULL,
    key text[] NOT NULL,                -- the row's, on the upgraded side
    kind text NOT NULL CHECK (kind IN ('missing', 'extra', 'different')),
    columns text[] NOT NULL DEFAULT '{}',
    source_key text[],                  -- the aggregate's, on the old side; NULL: no map knows it
    target_key text[],                  -- the aggregate's in this table, where there is no source_key
    cause text NOT NULL,
    evidence jsonb NOT NULL DEFAULT '{}', -- LSNs, xids, numbers; never a value of the row
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,              -- it was equal then; NULL: open
    opened xid8 NOT NULL DEFAULT pg_current_xact_id(),  -- which transaction opened it last
    changed xid8 NOT NULL DEFAULT pg_current_xact_id(), -- which transaction opened, closed or changed it last
    UNIQUE (connector, feed, mapping, table_schema, table_name, kind, key)
);
CREATE INDEX divergence_open ON replicator.divergence (connector, feed, mapping, id) WHERE closed_at IS NULL;
CREATE INDEX divergence_changed ON replicator.divergence (connector, feed, changed, id);
COMMENT ON TABLE replicator.divergence IS 'Rows that are proven not to be what the old side demands; settled ones are kept';

CREATE TABLE replicator.check_result (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector text NOT NULL,
    feed text NOT NULL,
    verification bigint,                -- the run that it was a part of
    name text NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('block', 'warn')),
    ok boolean,                         -- NULL: it could not be decided
    message text NOT NULL DEFAULT '',
    keys text[] NOT NULL DEFAULT '{}',  -- of the first rows that are wrong
    position text,                      -- of the old side's WAL: everything before it was applied
    since timestamptz NOT NULL DEFAULT clock_timestamp(), -- it has said the same since then
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp(), -- and said so last
    times bigint NOT NULL DEFAULT 1,
    seconds double precision NOT NULL DEFAULT 0
);
CREATE INDEX check_result_newest ON replicator.check_result (connector, feed, name, id);
COMMENT ON TABLE replicator.check_result IS 'What each rule of the business said, over time';

CREATE TABLE replicator.certificate (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector text NOT NULL,
    feed text NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    verification bigint NOT NULL,       -- the run that proves it
    content jsonb NOT NULL,             -- tables, transforms and their digests, positions
    void_at timestamptz,
    void_reason text
);
CREATE INDEX certificate_newest ON replicator.certificate (connector, feed, id);
COMMENT ON TABLE replicator.certificate IS 'Proofs that both databases agree: what a cutover asks for';

CREATE TABLE replicator.mapping_digest (
    connector text NOT NULL,
    feed text NOT NULL,
    mapping text NOT NULL,
    digest text NOT NULL,               -- of the transform by which all rows are, but for what `writes` says
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    writes text,                        -- of the one by which rows have been written since it changed; NULL: the same
    writes_since timestamptz,
    progress jsonb,                     -- of the rederive that brings the rows from before to `writes`
    PRIMARY KEY (connector, feed, mapping)
);
COMMENT ON TABLE replicator.mapping_digest IS 'By which transform the rows of each mapping are written';

ALTER TABLE replicator.request ADD COLUMN detail jsonb; -- how far it is, and then what came of it, for scripts

CREATE TABLE replicator.job_transaction (
    xid bigint PRIMARY KEY,             -- all 64 bits
    connector text NOT NULL,
    feed text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE replicator.job_transaction IS 'Transactions of copies, repairs and other jobs: they carry no origin';

CREATE TABLE replicator.marked_session (
    connector text NOT NULL,
    feed text NOT NULL,
    purpose text NOT NULL,              -- which lane
    since timestamptz NOT NULL DEFAULT clock_timestamp(), -- all of its transactions from then on carry an origin
    PRIMARY KEY (connector, feed, purpose)
);
COMMENT ON TABLE replicator.marked_session IS 'Since when it is certain that a row without our origin is not the feed''s';
