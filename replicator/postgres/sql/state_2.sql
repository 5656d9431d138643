-- Version 2: feeds that read a log of partitions. Upgrades version 1 in place.

CREATE TABLE replicator.partition (
    connector text NOT NULL,
    feed text NOT NULL,
    topic text COLLATE "C" NOT NULL,    -- the order of the index is the one in which rows are locked
    partition integer NOT NULL,
    epoch bigint NOT NULL,              -- raised by every take-over of this partition
    next_offset bigint,                 -- of the first record that is not applied; NULL: nobody has begun
    holder text,                        -- the process that applies it; NULL: it was given up in good order
    former text,                        -- who held it when the holder took it over, without having given it up
    commit_time double precision,       -- source commit time of the newest applied change, Unix seconds
    applied_at timestamptz,
    PRIMARY KEY (connector, feed, topic, partition)
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE replicator.partition IS 'Progress of each partition of a log, committed together with the rows';

CREATE TABLE replicator.member_backend (
    connector text NOT NULL,
    feed text NOT NULL,
    pid integer NOT NULL,
    backend_start timestamptz NOT NULL, -- with pid: the same backend, not a later one of the same number
    member text NOT NULL,               -- as replicator.partition.holder
    PRIMARY KEY (connector, feed, pid)
);
COMMENT ON TABLE replicator.member_backend IS 'Sessions that apply partitions, which whoever takes these over ends first';

CREATE TABLE replicator.log_identity (
    connector text NOT NULL,
    feed text NOT NULL,
    topic text COLLATE "C" NOT NULL,
    cluster text NOT NULL,
    topic_id text NOT NULL,             -- a topic that was made again has another one
    partitions text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (connector, feed, topic)
);
COMMENT ON TABLE replicator.log_identity IS 'The log whose offsets replicator.partition holds';
