"""The SQL of `replicator.partition` and its neighbours, and of leadership; as in `state_sql`.

Partitions come as parallel arrays that are sorted by topic and partition, and the index sorts them alike: all lock rows
in one order.
"""

from __future__ import annotations

from typing import Final

_HELD: Final = (
    b"unnest($3::text[], $4::integer[], $5::bigint[]) AS held(topic, partition, epoch) "
    b"WHERE p.connector = $1::text AND p.feed = $2::text AND p.topic = held.topic AND p.partition = held.partition "
    b"AND p.epoch = held.epoch"
)

# -- transactions and sessions of a member -----------------------------------------------------------------------------

# OFFSET keeps the planner from turning it round: for each row of the index, it would search the arrays (200 ms for a
# thousand partitions, tried).
MOVE: Final = (
    b"WITH moved AS (UPDATE replicator.partition AS p SET next_offset = held.after, "
    b"mark = coalesce(held.mark, p.mark), "
    b"commit_time = coalesce($9::double precision, p.commit_time), applied_at = clock_timestamp() "
    b"FROM (SELECT $1::text AS connector, $2::text AS feed, each.* "
    b"FROM unnest($3::text[], $4::integer[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[]) "
    b"AS each(topic, partition, epoch, before, after, mark) OFFSET 0) AS held WHERE p.connector = held.connector "
    b"AND p.feed = held.feed AND p.topic = held.topic AND p.partition = held.partition AND p.epoch = held.epoch "
    b"AND p.next_offset IS NOT DISTINCT FROM held.before RETURNING 1) "
    b"SELECT 1 / (count(*) = cardinality($3::text[]))::integer FROM moved"
)
REGISTER: Final = (
    b"INSERT INTO replicator.member_backend (connector, feed, pid, backend_start, member) "
    b"SELECT $1::text, $2::text, a.pid, a.backend_start, $3::text "
    b"FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a "
    b"ON CONFLICT (connector, feed, pid) DO UPDATE SET backend_start = EXCLUDED.backend_start, member = EXCLUDED.member"
)
STILL_HELD: Final = b"SELECT 1 / (count(*) = cardinality($3::text[]))::integer FROM replicator.partition AS p, " + _HELD

# -- the ledger --------------------------------------------------------------------------------------------------------

LOCK_TIMEOUT: Final = "SET lock_timeout = '2s'"
JOIN: Final = (
    "INSERT INTO replicator.feed (connector, feed, epoch, lanes, holder) VALUES ($1, $2, 0, 0, 'nobody yet') "
    "ON CONFLICT DO NOTHING"
)
FROM_SLOT: Final = (
    "SELECT position FROM replicator.checkpoint WHERE connector = $1 AND feed = $2 AND position IS NOT NULL LIMIT 1"
)
BEGUN: Final = (
    "SELECT topic, partition, next_offset FROM replicator.partition "
    "WHERE connector = $1 AND feed = $2 AND next_offset IS NOT NULL"
)
HOLD: Final = (
    b"SELECT topic, partition FROM replicator.partition WHERE connector = $1::text AND feed = $2::text "
    b"AND topic = ANY ($3::text[]) ORDER BY topic, partition FOR SHARE"
)
MARKS: Final = (
    "SELECT p.topic, p.partition, p.mark FROM replicator.partition p, "
    "unnest($3::text[], $4::integer[]) AS wanted(topic, number) WHERE p.connector = $1 AND p.feed = $2 "
    "AND p.topic = wanted.topic AND p.partition = wanted.number AND p.mark IS NOT NULL"
)
FORMER: Final = (
    "SELECT DISTINCT p.holder FROM replicator.partition p, unnest($3::text[], $4::integer[]) AS wanted(topic, number) "
    "WHERE p.connector = $1 AND p.feed = $2 AND p.topic = wanted.topic AND p.partition = wanted.number "
    "AND p.holder <> $5"
)
TAKE: Final = (
    "INSERT INTO replicator.partition AS p (connector, feed, topic, partition, epoch, holder) "
    "SELECT $1, $2, topic, number, 1, $5 FROM unnest($3::text[], $4::integer[]) AS wanted(topic, number) "
    "ON CONFLICT (connector, feed, topic, partition) "
    "DO UPDATE SET epoch = p.epoch + 1, former = p.holder, holder = EXCLUDED.holder "
    "RETURNING topic, partition, epoch, next_offset, former"
)
BEGIN: Final = (
    "INSERT INTO replicator.partition AS p (connector, feed, topic, partition, epoch, next_offset) "
    "SELECT $1, $2, topic, number, 0, start FROM unnest($3::text[], $4::integer[], $5::bigint[]) "
    "AS wanted(topic, number, start) ON CONFLICT (connector, feed, topic, partition) "
    "DO UPDATE SET next_offset = coalesce(p.next_offset, EXCLUDED.next_offset) "
    "RETURNING topic, partition, next_offset"
)
RELEASE: Final = "UPDATE replicator.partition AS p SET holder = NULL FROM " + _HELD.decode()
MEMBERS: Final = (
    "SELECT a.pid FROM replicator.member_backend b JOIN pg_catalog.pg_stat_activity a "
    "ON a.pid = b.pid AND a.backend_start = b.backend_start "
    "WHERE b.connector = $1 AND b.feed = $2 AND b.member = ANY ($3::text[])"
)
MEMBERS_FORGET: Final = (
    "DELETE FROM replicator.member_backend b WHERE b.connector = $1 AND b.feed = $2 AND NOT EXISTS ("
    "SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = b.pid AND a.backend_start = b.backend_start)"
)
IDENTITY_SEE: Final = (
    "INSERT INTO replicator.log_identity (connector, feed, topic, cluster, topic_id, partitions) "
    "SELECT $1, $2, topic, $3, id, partitions FROM unnest($4::text[], $5::text[], $6::text[]) "
    "AS seen(topic, id, partitions) ON CONFLICT DO NOTHING"
)
IDENTITY: Final = (
    "SELECT topic, cluster, topic_id, partitions FROM replicator.log_identity "
    "WHERE connector = $1 AND feed = $2 ORDER BY topic"
)
PARTITIONS: Final = (
    "SELECT feed, topic, partition, next_offset, holder, commit_time FROM replicator.partition "
    "WHERE connector = $1 ORDER BY topic, partition"
)

# -- the leader --------------------------------------------------------------------------------------------------------

TRY_TO_LEAD: Final = "SELECT pg_catalog.pg_try_advisory_lock($1::integer, $2::integer)"
BEAT: Final = "SELECT 1"
# The leader's session says something every few seconds: one that has been silent belongs to a process that is frozen or
# cut off. What another role's session does is hidden, and it couldn't be ended either.
END_SILENT_LEADER: Final = (
    "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a "
    "ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 "
    "AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()) "
    "AND l.classid = ($1::integer)::oid AND l.objid = ($2::integer)::oid "
    "AND a.state_change < clock_timestamp() - make_interval(secs => $3::double precision)"
)
