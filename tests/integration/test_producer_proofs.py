"""Whether what was committed on the source is in the log: by Connect's offset, by the capture's slot; and the marks."""

import asyncio

import pytest
import structlog

from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.proof import DebeziumProof
from replicator.postgres.capture_proof import CaptureProof
from replicator.postgres.heartbeat import MAKE_HEARTBEAT
from replicator.postgres.marker import MESSAGE_PREFIX, LogMarker
from tests.fix_connect import ConnectServer, offset
from tests.fix_postgres import Database
from tests.polling import looped


class CountingMarker:
    """A source that only counts beats, and may refuse them."""

    def __init__(self, refusal: ErrorKind | None = None) -> None:
        self.beats = 0
        self.beaten = asyncio.Event()
        self._refusal = refusal

    async def beat(self) -> int:
        self.beats += 1
        self.beaten.set()
        if self._refusal is not None:
            raise ReplicatorError("no", kind=self._refusal)
        return 0

    async def head(self) -> int:
        raise AssertionError

    async def retained_wal_bytes(self) -> int | None:
        raise AssertionError


async def test_an_offset_past_the_lsn_proves_it(connect_server: ConnectServer) -> None:
    """Not one at it, nor another prefix's, nor the LSN of a change in a transaction that isn't whole."""
    marker = CountingMarker()
    client = connect_server.client()
    proof = DebeziumProof(client, "old", marker, beat_seconds=0)
    try:
        for stored in (offset(), offset(lsn_commit=100), offset(lsn_commit=99, lsn=200, lsn_proc=200)):
            connect_server.offsets["crm"] = [offset("older", lsn_commit=500), stored]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(proof.produced(100), 0.25)
        waiting = asyncio.ensure_future(proof.produced(100))
        connect_server.offsets["crm"] = [offset("older", lsn_commit=1), offset(lsn_commit=101)]
        await asyncio.wait_for(waiting, 5)
    finally:
        await client.close()
    assert 0 == marker.beats


@pytest.mark.parametrize("refusal", [None, ErrorKind.PERMISSION])
async def test_an_idle_source_gets_a_beat(connect_server: ConnectServer, refusal: ErrorKind | None) -> None:
    """Debezium's offset stands still while nothing is committed; a source that takes no beat is waited for."""
    connect_server.offsets["crm"] = [offset(lsn_commit=100)]
    marker = CountingMarker(refusal)
    client = connect_server.client()
    proof = DebeziumProof(client, "old", marker, beat_seconds=60)
    try:
        waiting = asyncio.ensure_future(proof.produced(100))
        await asyncio.wait_for(marker.beaten.wait(), 10)
        connect_server.offsets["crm"] = [offset(lsn_commit=102)]
        await asyncio.wait_for(waiting, 5)
    finally:
        await client.close()
    assert 1 == marker.beats


async def test_a_worker_that_restarts_is_waited_for(connect_server: ConnectServer) -> None:
    """Connect's absence ends no feed at once, but it does in the end."""
    connect_server.offsets["crm"] = [offset(lsn_commit=101)]
    connect_server.status, connect_server.times = 503, 3
    client = connect_server.client()
    try:
        await asyncio.wait_for(DebeziumProof(client, "old", CountingMarker(), beat_seconds=0).produced(100), 5)
        connect_server.times = None
        with pytest.raises(ReplicatorError) as caught:
            await DebeziumProof(client, "old", CountingMarker(), beat_seconds=0, patience_seconds=0.3).produced(100)
    finally:
        await client.close()
    assert ErrorKind.CONNECTION == caught.value.kind


async def test_a_task_that_failed_is_told(connect_server: ConnectServer) -> None:
    """While nothing comes because Debezium doesn't run, the log says so, once; and when it runs again."""
    connect_server.offsets["crm"] = [offset(lsn_commit=100)]
    connect_server.states["crm"] = ("RUNNING", ["FAILED"])
    client = connect_server.client()
    proof = DebeziumProof(client, "old", CountingMarker(), beat_seconds=0)
    with structlog.testing.capture_logs() as told:
        try:
            waiting = asyncio.ensure_future(proof.produced(100))
            await looped(lambda: connect_server.requests.count("/connectors/crm/status") > 1)
            connect_server.states["crm"] = ("RUNNING", ["RUNNING"])
            connect_server.offsets["crm"] = [offset(lsn_commit=102)]
            await waiting
        finally:
            await client.close()
    assert [("Debezium fills no topics", "its task is FAILED"), ("Debezium runs again", None)] == [
        (line["event"], line.get("error")) for line in told
    ]


async def test_without_connect_nothing_is_proven() -> None:
    """And the error says what the connector lacks."""
    with pytest.raises(ReplicatorError, match=r"stream\.connect_url") as caught:
        await DebeziumProof(None, "old", CountingMarker(), beat_seconds=1).produced(1)
    assert ErrorKind.CONFIG == caught.value.kind


async def test_another_prefix_is_told(connect_server: ConnectServer) -> None:
    """A Debezium that fills other topics will never prove anything about ours."""
    connect_server.offsets["crm"] = [offset("legacy", lsn_commit=500)]
    client = connect_server.client()
    try:
        with pytest.raises(ReplicatorError, match="of old, but of legacy") as caught:
            await DebeziumProof(client, "old", CountingMarker(), beat_seconds=1).produced(1)
    finally:
        await client.close()
    assert ErrorKind.CONFIG == caught.value.kind


def insert_lsn(database: Database) -> int:
    return int(database.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0])


async def test_a_confirmed_slot_proves_it(old_database: Database) -> None:
    """The capture's slot stands still until it confirms; then everything before is in Kafka."""
    old_database.execute("SELECT pg_create_logical_replication_slot('captured', 'pgoutput')")
    old_database.execute("CREATE TABLE t (id int)")
    lsn = insert_lsn(old_database)
    proof = CaptureProof(old_database.dsn, "crm/forward", "captured")
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(proof.produced(lsn), 0.5)
        waiting = asyncio.ensure_future(proof.produced(lsn))
        old_database.execute("SELECT pg_replication_slot_advance('captured', pg_current_wal_lsn())")
        await asyncio.wait_for(waiting, 10)
    finally:
        await proof.close()


async def test_a_capture_without_its_slot_has_lost_changes(old_database: Database) -> None:
    """Nothing will ever prove it, so it isn't waited for."""
    proof = CaptureProof(old_database.dsn, "crm/forward", "captured")
    try:
        with pytest.raises(ReplicatorError, match="captured") as caught:
            await proof.produced(1)
    finally:
        await proof.close()
    assert ErrorKind.SLOT_LOST == caught.value.kind


def shown(database: Database, publication: str) -> list[int]:
    """LSNs of the transactions that pgoutput sends to a reader of this publication, as Debezium asks for it."""
    rows = database.execute(
        "SELECT lsn - '0/0'::pg_lsn FROM pg_logical_slot_get_binary_changes('reader', NULL, NULL, "
        "'proto_version', '1', 'publication_names', %s, 'messages', 'true') WHERE get_byte(data, 0) = ascii('C')",
        [publication],
    )
    return [int(lsn) for (lsn,) in rows]


async def test_a_message_is_heard_where_the_heartbeat_is_not_published(old_database: Database) -> None:
    """Since 15 a transaction that touches no published table isn't sent; one with a message is, and lies behind."""
    for statement in MAKE_HEARTBEAT:
        old_database.execute(statement)
    old_database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    old_database.execute("CREATE PUBLICATION p FOR TABLE t")
    old_database.execute("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')")
    plain = LogMarker(old_database.dsn, "crm/forward")
    loud = LogMarker(old_database.dsn, "crm/forward", slot="reader", message=True)
    try:
        await plain.beat()
        assert [] == shown(old_database, "p")
        assert await plain.retained_wal_bytes() is None
        before = insert_lsn(old_database)
        lsn = await loud.beat()
        assert before <= lsn <= await loud.head()
        (commit,) = shown(old_database, "p")
        assert commit > lsn
        assert await loud.retained_wal_bytes() is not None
    finally:
        await plain.close()
        await loud.close()


async def test_a_message_alone_marks_a_source_without_heartbeat_table(old_database: Database) -> None:
    """No right is needed for it; without messages the refusal is told."""
    old_database.execute("CREATE PUBLICATION p")
    old_database.execute("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')")
    plain = LogMarker(old_database.dsn, "crm/forward")
    loud = LogMarker(old_database.dsn, "crm/forward", message=True)
    try:
        with pytest.raises(ReplicatorError) as caught:
            await plain.beat()
        lsn = await loud.beat()
    finally:
        await plain.close()
        await loud.close()
    assert ErrorKind.PERMISSION == caught.value.kind
    (commit,) = shown(old_database, "p")
    assert commit > lsn
    assert "replicator" == MESSAGE_PREFIX


async def test_connect_is_not_asked_more_than_needed(connect_server: ConnectServer) -> None:
    """Ever less often while nothing comes, once for all who wait, and not at all about what was proven before."""
    connect_server.offsets["crm"] = [offset(lsn_commit=100)]
    client = connect_server.client()
    proof = DebeziumProof(client, "old", CountingMarker(), beat_seconds=0)
    asked = "/connectors/crm/offsets"
    try:
        waiting = [asyncio.ensure_future(proof.produced(100)) for _ in range(20)]
        await asyncio.wait(waiting, timeout=4)
        assert 60 > connect_server.requests.count(asked) > 1
        connect_server.offsets["crm"] = [offset(lsn_commit=200)]
        await asyncio.wait_for(asyncio.gather(*waiting), 30)
        before = len(connect_server.requests)
        await proof.produced(150)
    finally:
        await client.close()
    assert before == len(connect_server.requests)
