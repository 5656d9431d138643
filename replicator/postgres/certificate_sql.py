"""The SQL by which a certificate is judged: what the target's own tables say now. Parameters are `$1`, ..."""

from __future__ import annotations

from typing import Final

# Of whole verifications only: all tables, no condition, no sample.
RUN: Final = """
    SELECT v.id, extract(epoch FROM v.started_at)::double precision, v.finished_at IS NOT NULL, v.result
    FROM replicator.verification AS v
    WHERE v.connector = $1::text AND v.feed = $2::text AND v.scope -> 'tables' = '[]'::jsonb
        AND v.scope -> 'where' = 'null'::jsonb AND (v.scope ->> 'sample_percent')::double precision >= 100
    ORDER BY v.finished_at IS NULL, v.id DESC LIMIT 1
"""
CERTIFICATE: Final = """
    SELECT c.id, extract(epoch FROM c.issued_at)::double precision,
        extract(epoch FROM coalesce(v.started_at, c.issued_at))::double precision, c.verification, c.content,
        c.void_reason, extract(epoch FROM c.void_at)::double precision
    FROM replicator.certificate AS c LEFT JOIN replicator.verification AS v ON v.id = c.verification
    WHERE c.connector = $1::text AND c.feed = $2::text ORDER BY c.id DESC LIMIT 1
"""
DIVERGENCES: Final = """
    SELECT d.table_schema, d.table_name, pg_catalog.count(*) FROM replicator.divergence AS d
    WHERE d.connector = $1::text AND d.feed = $2::text AND d.closed_at IS NULL AND d.mapping = ANY($3::text[])
    GROUP BY d.table_schema, d.table_name ORDER BY 1, 2
"""
STATE: Final = "SELECT f.state FROM replicator.feed AS f WHERE f.connector = $1::text AND f.feed = $2::text"
LETTERS: Final = (
    "SELECT pg_catalog.count(*) FROM replicator.dead_letter AS l "
    "WHERE l.connector = $1::text AND l.feed = $2::text AND l.discarded_at IS NULL"
)
STALE: Final = (
    "SELECT s.mapping, s.reason FROM replicator.stale_mapping AS s "
    "WHERE s.connector = $1::text AND s.feed = $2::text ORDER BY s.since"
)
REQUESTS: Final = (
    "SELECT DISTINCT r.kind FROM replicator.request AS r WHERE r.connector = $1::text AND r.feed = $2::text "
    "AND r.status IN ('new', 'running') AND r.kind IN ('resync', 'rederive', 'repair') ORDER BY 1"
)
REWRITTEN: Final = """
    SELECT f.mapping, max(extract(epoch FROM f.at)::double precision) FROM (
        SELECT t.mapping, coalesce(t.finished_at, t.started_at) AS at FROM replicator.copied_table AS t
        WHERE t.connector = $1::text AND t.feed = $2::text
      UNION ALL
        SELECT d.mapping, greatest(d.since, d.writes_since) FROM replicator.mapping_digest AS d
        WHERE d.connector = $1::text AND d.feed = $2::text
    ) AS f WHERE f.mapping = ANY($3::text[]) GROUP BY f.mapping ORDER BY f.mapping
"""
UNDONE: Final = (
    "SELECT d.mapping FROM replicator.mapping_digest AS d WHERE d.connector = $1::text AND d.feed = $2::text "
    "AND d.writes IS NOT NULL AND d.mapping = ANY($3::text[]) ORDER BY 1"
)
# A timeline is in the name of a WAL file at once; the control file tells it after the next checkpoint only.
IDENTITY: Final = """
    SELECT c.system_identifier::text, CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN (SELECT k.timeline_id FROM pg_catalog.pg_control_checkpoint() AS k)
            ELSE (
                SELECT ('x' || pg_catalog.substr(w.name, 1, 8))::bit(32)::integer
                FROM pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) AS w(name)
            )
        END, d.oid::bigint
    FROM pg_catalog.pg_control_system() AS c, pg_catalog.pg_database AS d
    WHERE d.datname = pg_catalog.current_database()
"""
# Of checks that have been looked at since the newest whole verification began: others are gone.
FAILED: Final = """
    SELECT n.name, CASE WHEN n.ok IS NULL THEN 'undecided' ELSE 'failed' END FROM (
        SELECT DISTINCT ON (r.name) r.name, r.ok, r.severity, r.checked_at FROM replicator.check_result AS r
        WHERE r.connector = $1::text AND r.feed = $2::text ORDER BY r.name, r.id DESC
    ) AS n
    WHERE n.ok IS NOT TRUE AND n.severity = 'block' AND n.checked_at >= pg_catalog.to_timestamp($3::double precision)
    ORDER BY n.name
"""
