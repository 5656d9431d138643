"""The SQL of the schema `replicator` in the target: all of it but its definition (sql/state_*.sql).

Parameters are `$1`, ...; those of the transactions of lanes and jobs travel as text. `1 / count(*)` fails in the server
when nothing was found: what follows in the same message is then not executed, COMMIT included.
"""

from __future__ import annotations

from typing import Final

DIVISION_BY_ZERO: Final = "22012"

VERSION_THERE: Final = (
    "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = 'replicator' AND c.relname = 'version'"
)

# -- every transaction -------------------------------------------------------------------------------------------------

BEGIN: Final = b"BEGIN"
COMMIT: Final = b"COMMIT"
LAZILY: Final = b"SET LOCAL synchronous_commit = off"
ROLLBACK: Final = b"ROLLBACK"
DEFER: Final = b"SET CONSTRAINTS ALL DEFERRED"
PING: Final = b"SELECT 1"
EPOCH_OF_LANE: Final = (
    b"SELECT 1 / count(*) FROM (SELECT FROM replicator.checkpoint WHERE connector = $1::text AND feed = $2::text "
    b"AND epoch = $3::bigint AND lane = $4::integer FOR UPDATE) AS current"
)
EPOCH_OF_FEED: Final = (
    b"SELECT 1 / count(*) FROM (SELECT FROM replicator.feed "
    b"WHERE connector = $1::text AND feed = $2::text AND epoch = $3::bigint FOR SHARE) AS current"
)
MARK: Final = b"SELECT pg_catalog.pg_logical_emit_message(true, 'replicator', $1::text)"
CHECKPOINT: Final = (
    b"WITH moved AS (UPDATE replicator.checkpoint SET position = $5::text, "
    b"commit_time = coalesce($6::double precision, commit_time), applied_at = clock_timestamp() "
    b"WHERE connector = $1::text AND feed = $2::text AND lane = $3::integer "
    b"AND position IS NOT DISTINCT FROM $4::text RETURNING 1) SELECT 1 / count(*) FROM moved"
)

# Two-key advisory locks: the connector's hash, and 0 for the gate or 1 + stripe.
GATE_SHARED: Final = b"SELECT pg_catalog.pg_advisory_xact_lock_shared($1::integer, 0)"
GATE_ALONE: Final = b"SELECT pg_catalog.pg_advisory_xact_lock($1::integer, 0)"
STRIPES: Final = (
    b"SELECT pg_catalog.pg_advisory_xact_lock($1::integer, stripe) FROM unnest($2::integer[]) AS wanted(stripe)"
)

# -- sessions ----------------------------------------------------------------------------------------------------------

# Rows are found by unique indexes: a generic plan with nested loops is right for one row as for ten thousand, and can't
# be spoilt by a table that was empty when the plan was made. JIT compiles longer than such a statement runs.
SESSION: Final = (
    b"SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false), "
    b"set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false), "
    b"set_config('jit', 'off', false)"
)
# Lanes whose unique values move meet in deadlocks, and a second for each of them is long; only superusers may choose.
QUICK_DEADLOCKS: Final = (
    b"SELECT CASE WHEN pg_catalog.current_setting('is_superuser') = 'on' "
    b"THEN pg_catalog.set_config('deadlock_timeout', '50ms', false) END"
)
# For statements that compare sets, or search columns that may have no index.
ANY_PLAN: Final = (
    b"SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'on', true), "
    b"set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true)"
)
INDEX_PLAN: Final = (
    b"SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true), "
    b"set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
)
REPLICA_SESSION: Final = b"SET session_replication_role = replica"
ROLE_REPLICA: Final = b"SET LOCAL session_replication_role = replica"
ROLE_ORIGIN: Final = b"SET LOCAL session_replication_role = origin"
ORIGIN_CREATE: Final = (
    b"SELECT pg_catalog.pg_replication_origin_create($1::text) "
    b"WHERE pg_catalog.pg_replication_origin_oid($1::text) IS NULL"
)
ORIGIN_SETUP: Final = b"SELECT pg_catalog.pg_replication_origin_session_setup($1::text)"
REGISTER: Final = (
    b"WITH registered AS (INSERT INTO replicator.backend (connector, feed, pid, backend_start, epoch, "
    b"purpose) SELECT f.connector, f.feed, pg_catalog.pg_backend_pid(), a.backend_start, $3::bigint, $4::text "
    b"FROM (SELECT connector, feed FROM replicator.feed WHERE connector = $1::text AND feed = $2::text "
    b"AND epoch = $3::bigint FOR SHARE) AS f, pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a "
    b"ON CONFLICT (connector, feed, pid) "
    b"DO UPDATE SET backend_start = EXCLUDED.backend_start, epoch = EXCLUDED.epoch, purpose = EXCLUDED.purpose "
    b"RETURNING 1) "
    b"SELECT 1 / count(*) FROM registered"
)

JOB: Final = (
    b"INSERT INTO replicator.job_transaction (xid, connector, feed) "
    b"VALUES (pg_catalog.pg_current_xact_id()::text::bigint, $1::text, $2::text) "
    # A database that was restored from a dump counts from elsewhere.
    b"ON CONFLICT (xid) DO UPDATE SET connector = excluded.connector, feed = excluded.feed, at = excluded.at"
)
MARKED: Final = (
    b"INSERT INTO replicator.marked_session AS m (connector, feed, purpose) VALUES ($1::text, $2::text, $3::text) "
    b"ON CONFLICT (connector, feed, purpose) DO UPDATE SET since = excluded.since "
    b"WHERE m.since = 'infinity' AND $4::boolean"
)
UNMARKED: Final = (
    b"INSERT INTO replicator.marked_session (connector, feed, purpose, since) "
    b"VALUES ($1::text, $2::text, $3::text, 'infinity') "
    b"ON CONFLICT (connector, feed, purpose) DO UPDATE SET since = 'infinity'"
)

# -- taking over -------------------------------------------------------------------------------------------------------

HOLDERS: Final = (
    "SELECT a.pid, b.purpose FROM replicator.backend b JOIN pg_catalog.pg_stat_activity a "
    "ON a.pid = b.pid AND a.backend_start = b.backend_start "
    "WHERE b.connector = $1 AND b.feed = $2 AND b.epoch < $3 AND a.pid <> pg_catalog.pg_backend_pid()"
)
TERMINATE: Final = "SELECT pg_catalog.pg_terminate_backend($1)"
FEED_NEW: Final = (
    "INSERT INTO replicator.feed (connector, feed, epoch, lanes, holder) VALUES ($1, $2, 0, $3, $4) "
    "ON CONFLICT DO NOTHING"
)
FEED_EPOCH: Final = "SELECT epoch FROM replicator.feed WHERE connector = $1 AND feed = $2"
FEED_LOCK: Final = "SELECT epoch, lanes FROM replicator.feed WHERE connector = $1 AND feed = $2 FOR UPDATE"
FEED_TAKE: Final = (
    "UPDATE replicator.feed SET epoch = epoch + 1, lanes = $3, holder = $4, taken_at = clock_timestamp() "
    "WHERE connector = $1 AND feed = $2 RETURNING epoch"
)
BACKENDS_FORGET: Final = (
    "DELETE FROM replicator.backend b WHERE b.connector = $1 AND b.feed = $2 AND NOT EXISTS ("
    "SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = b.pid AND a.backend_start = b.backend_start)"
)
CHECKPOINTS: Final = (
    "SELECT lane, position, commit_time FROM replicator.checkpoint WHERE connector = $1 AND feed = $2 ORDER BY lane"
)
CHECKPOINTS_LOCK: Final = CHECKPOINTS + " FOR UPDATE"
CHECKPOINTS_TAKE: Final = "UPDATE replicator.checkpoint SET epoch = $3 WHERE connector = $1 AND feed = $2"
CHECKPOINTS_ALL: Final = (
    "SELECT feed, lane, position, commit_time FROM replicator.checkpoint WHERE connector = $1 ORDER BY lane"
)
FROM_LOG: Final = (
    "SELECT FROM replicator.partition WHERE connector = $1 AND feed = $2 AND next_offset IS NOT NULL LIMIT 1"
)
CHECKPOINTS_FORGET: Final = "DELETE FROM replicator.checkpoint WHERE connector = $1 AND feed = $2"
CHECKPOINTS_LAY: Final = (
    "INSERT INTO replicator.checkpoint (connector, feed, lane, epoch, position, commit_time) "
    "SELECT $1, $2, lane, 0, $4, $5 FROM generate_series(0, $3::integer - 1) AS lane"
)

# -- dead letters ------------------------------------------------------------------------------------------------------

PARK: Final = (
    b"INSERT INTO replicator.dead_letter (connector, feed, mapping, key, source_schema, source_table, op, position, "
    b"kind, message, before, after) VALUES ($1::text, $2::text, $3::text, $4::text[], $5::text, $6::text, $7::text, "
    b"$8::text, $9::text, $10::text, $11::jsonb, $12::jsonb)"
)
UNPARK: Final = (
    b"DELETE FROM replicator.dead_letter WHERE connector = $1::text AND feed = $2::text AND id = ANY ($3::bigint[])"
)
DISCARD: Final = (
    b"UPDATE replicator.dead_letter SET discarded_at = clock_timestamp() "
    b"WHERE connector = $1::text AND feed = $2::text AND id = ANY ($3::bigint[]) AND discarded_at IS NULL"
)
VOID: Final = (
    b"UPDATE replicator.dead_letter SET discarded_at = clock_timestamp() "
    b"WHERE connector = $1::text AND feed = $2::text AND mapping = ANY ($3::text[]) AND discarded_at IS NULL"
)
LETTERS: Final = (
    "SELECT id, mapping, key, source_schema, source_table, op, position, kind, message, before, after, request "
    "FROM replicator.dead_letter WHERE connector = $1 AND feed = $2 AND discarded_at IS NULL ORDER BY id"
)
LETTERS_ASK: Final = (
    "UPDATE replicator.dead_letter SET request = $4 "
    "WHERE connector = $1 AND feed = $2 AND id = ANY ($3) AND discarded_at IS NULL RETURNING id"
)

# -- copies ------------------------------------------------------------------------------------------------------------

COPIED_TABLES: Final = (
    "SELECT mapping, rows, insert_lsn, complete FROM replicator.copied_table "
    "WHERE connector = $1 AND feed = $2 AND job = $3"
)
COPIED_CHUNKS: Final = (
    "SELECT mapping, number, after, upto, rows, insert_lsn FROM replicator.copied_chunk "
    "WHERE connector = $1 AND feed = $2 AND job = $3 ORDER BY mapping, number"
)
COPY_BEGIN: Final = (
    b"INSERT INTO replicator.copied_table (connector, feed, job, mapping) "
    b"VALUES ($1::text, $2::text, $3::text, $4::text) ON CONFLICT DO NOTHING"
)
CHUNK_RECORD: Final = (
    b"INSERT INTO replicator.copied_chunk (connector, feed, job, mapping, number, after, upto, rows, insert_lsn) "
    b"VALUES ($1::text, $2::text, $3::text, $4::text, $5::bigint, $6::text[], $7::text[], $8::bigint, $9::bigint) "
    b"ON CONFLICT (connector, feed, job, mapping, number) DO UPDATE SET after = EXCLUDED.after, upto = EXCLUDED.upto, "
    b"rows = EXCLUDED.rows, insert_lsn = EXCLUDED.insert_lsn, finished_at = clock_timestamp()"
)
COPY_FINISH: Final = (
    b"WITH folded AS (DELETE FROM replicator.copied_chunk WHERE connector = $1::text AND feed = $2::text "
    b"AND job = $3::text AND mapping = $4::text RETURNING rows, insert_lsn) "
    b"UPDATE replicator.copied_table SET complete = true, finished_at = clock_timestamp(), "
    b"rows = rows + (SELECT coalesce(sum(folded.rows), 0) FROM folded), "
    b"insert_lsn = greatest(insert_lsn, (SELECT max(folded.insert_lsn) FROM folded)) "
    b"WHERE connector = $1::text AND feed = $2::text AND job = $3::text AND mapping = $4::text"
)
CHUNKS_FORGET: Final = (
    b"DELETE FROM replicator.copied_chunk WHERE connector = $1::text AND feed = $2::text AND job = $3::text "
    b"AND mapping = $4::text"
)
COPY_FORGET: Final = (
    b"DELETE FROM replicator.copied_table WHERE connector = $1::text AND feed = $2::text AND job = $3::text "
    b"AND mapping = $4::text"
)
CUT_RECORD: Final = (
    b"INSERT INTO replicator.multiset_cut (connector, feed, mapping, source_schema, source_table, snapshot, lsn) "
    b"VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::bigint) "
    b"ON CONFLICT (connector, feed, mapping) DO UPDATE SET source_schema = EXCLUDED.source_schema, "
    b"source_table = EXCLUDED.source_table, snapshot = EXCLUDED.snapshot, lsn = EXCLUDED.lsn"
)
CUTS: Final = (
    "SELECT source_schema, source_table, snapshot, lsn FROM replicator.multiset_cut "
    "WHERE connector = $1 AND feed = $2 ORDER BY mapping"
)
DEFER_KEY: Final = (
    b"INSERT INTO replicator.deferred (connector, feed, mapping, key) "
    b"VALUES ($1::text, $2::text, $3::text, $4::text[]) ON CONFLICT DO NOTHING"
)
DEFERRED: Final = (
    "SELECT mapping, key FROM replicator.deferred WHERE connector = $1 AND feed = $2 ORDER BY since, mapping, key"
)
SETTLED: Final = (
    b"DELETE FROM replicator.deferred WHERE connector = $1::text AND feed = $2::text AND mapping = $3::text "
    b"AND key = $4::text[]"
)
CAUGHT_UP: Final = (
    "SELECT greatest((SELECT max(insert_lsn) FROM replicator.copied_table WHERE connector = $1 AND feed = $2), "
    "(SELECT max(insert_lsn) FROM replicator.copied_chunk WHERE connector = $1 AND feed = $2), 0)"
)

# -- what the schema watch has seen ------------------------------------------------------------------------------------

SCHEMA_SEEN: Final = "SELECT side, content FROM replicator.schema_seen WHERE connector = $1 AND feed = $2"
STALE: Final = (
    "SELECT mapping, reason, since::text FROM replicator.stale_mapping "
    "WHERE connector = $1 AND feed = $2 ORDER BY since, mapping"
)
SCHEMA_SEE: Final = (
    b"INSERT INTO replicator.schema_seen (connector, feed, side, content) "
    b"VALUES ($1::text, $2::text, $3::text, $4::text) "
    b"ON CONFLICT (connector, feed, side) DO UPDATE SET content = EXCLUDED.content, seen_at = EXCLUDED.seen_at"
)
STALE_SINCE: Final = (
    b"INSERT INTO replicator.stale_mapping (connector, feed, mapping, reason) "
    b"VALUES ($1::text, $2::text, $3::text, $4::text) "
    b"ON CONFLICT (connector, feed, mapping) DO UPDATE SET reason = EXCLUDED.reason, since = EXCLUDED.since"
)
MENDED: Final = (
    b"DELETE FROM replicator.stale_mapping WHERE connector = $1::text AND feed = $2::text "
    b"AND mapping = $3::text AND since = $4::timestamptz"
)

# -- requests ----------------------------------------------------------------------------------------------------------

CHANNEL: Final = "replicator"
REQUEST_NEW: Final = (
    "INSERT INTO replicator.request (connector, feed, kind, payload) VALUES ($1, $2, $3, $4) RETURNING id"
)
NOTIFY: Final = "SELECT pg_catalog.pg_notify('replicator', $1)"
REQUESTS_OPEN: Final = (
    "SELECT id, kind, payload, status, message FROM replicator.request WHERE connector = $1 AND feed = $2 "
    "AND status IN ('new', 'running') ORDER BY id"
)
REQUEST_READ: Final = "SELECT id, kind, payload, status, message FROM replicator.request WHERE id = $1"
REQUEST_START: Final = "UPDATE replicator.request SET status = 'running', started_at = clock_timestamp() WHERE id = $1"
REQUEST_END: Final = (
    "UPDATE replicator.request SET status = $2, message = $3, finished_at = clock_timestamp() WHERE id = $1"
)
STATE_TELL: Final = (
    "UPDATE replicator.feed SET state = $4 WHERE connector = $1 AND feed = $2 AND epoch = $3 RETURNING epoch"
)
FEEDS: Final = (
    "SELECT f.feed, f.epoch, f.lanes, f.holder, f.taken_at, f.state, "
    "(SELECT count(*) FROM replicator.dead_letter d WHERE d.connector = f.connector AND d.feed = f.feed "
    "AND d.discarded_at IS NULL), "
    "(SELECT count(*) FROM replicator.deferred d WHERE d.connector = f.connector AND d.feed = f.feed) "
    "FROM replicator.feed f WHERE f.connector = $1 ORDER BY f.feed"
)
