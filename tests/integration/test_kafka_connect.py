"""The client of Kafka Connect's REST API, against a server that answers as Connect does, or doesn't."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka import connect as module
from replicator.kafka.connect import ConnectClient, ConnectorStatus, SourceOffset, Worker
from tests.fix_connect import DEBEZIUM, ConnectServer, offset


@contextlib.asynccontextmanager
async def opened(client: ConnectClient) -> AsyncIterator[ConnectClient]:
    try:
        yield client
    finally:
        await client.close()


async def refused(client: ConnectClient) -> ReplicatorError:
    """The error of asking for the configuration."""
    async with opened(client):
        with pytest.raises(ReplicatorError) as caught:
            await client.config()
    assert "s3cret" not in str(caught.value)
    return caught.value


async def test_a_connector_is_described(connect_server: ConnectServer) -> None:
    """Configuration, state, worker and the plugin's version, whatever name the class has."""
    async with opened(connect_server.client()) as client:
        assert {"connector.class": DEBEZIUM, "database.password": "s3cret"} == await client.config()
        assert ConnectorStatus("RUNNING", ("RUNNING",)) == await client.status()
        assert Worker("4.3.1", "cluster-1") == await client.worker()
        for name in (DEBEZIUM, "PostgresConnector", "Postgres"):
            assert "3.6.3.Final" == await client.plugin_version(name)
        assert await client.plugin_version("MySql") is None


@pytest.mark.parametrize(
    "stored,expected",
    [
        (offset(lsn_commit=7, lsn_proc=9, lsn=9), SourceOffset("old", 7)),
        (offset(lsn=9, snapshot="INITIAL", snapshot_completed=False), SourceOffset("old", None, snapshot=True)),
        (offset(lsn=9, snapshot=True, last_snapshot_record=False), SourceOffset("old", None, snapshot=True)),
        (offset(lsn=9, snapshot=True, last_snapshot_record=True), SourceOffset("old", None)),
        (offset(lsn_commit=7, snapshot="INCREMENTAL", snapshot_completed=True), SourceOffset("old", 7)),
        (offset(lsn_commit=-1), SourceOffset("old", 2**64 - 1)),
        ({"partition": {"server": "old"}, "offset": None}, SourceOffset("old")),
    ],
)
async def test_offsets_are_read(connect_server: ConnectServer, stored: object, expected: SourceOffset) -> None:
    """Only the LSN of a whole transaction counts; Java's numbers have a sign; a deleted offset is none."""
    connect_server.offsets["crm"] = [stored]  # type: ignore[list-item]  # as the server would send it
    async with opened(connect_server.client()) as client:
        assert (expected,) == await client.offsets()


@pytest.mark.parametrize(
    "state,tasks,trouble",
    [
        ("RUNNING", ["RUNNING"], None),
        ("RUNNING", ["FAILED"], "its task is FAILED"),
        ("PAUSED", ["PAUSED"], "it is PAUSED"),
        ("RUNNING", [], "it has no task"),
    ],
)
async def test_trouble_is_named(
    connect_server: ConnectServer, state: str, tasks: list[str], trouble: str | None
) -> None:
    """Why a connector fills no topics, without what its trace says."""
    connect_server.states["crm"] = state, tasks
    async with opened(connect_server.client()) as client:
        status = await client.status()
    assert trouble == status.trouble


async def test_an_unknown_connector_names_those_that_exist(connect_server: ConnectServer) -> None:
    """A slip in the name is seen at once; a name is quoted in the path."""
    connect_server.configs["billing"] = {}
    error = await refused(connect_server.client("crm/../x y"))
    assert ErrorKind.CONFIG == error.kind
    assert "no connector crm/../x y; it has billing, crm" in error.message
    assert "/connectors/crm%2F..%2Fx%20y/config" == connect_server.requests[0]


async def test_a_connect_without_offsets_is_too_old(connect_server: ConnectServer) -> None:
    """Before Kafka 3.5 the path isn't there, though the connector is."""
    async with opened(connect_server.client()) as client:
        with pytest.raises(ReplicatorError, match=r"since Kafka 3\.5") as caught:
            await client.offsets()
    assert ErrorKind.CONFIG == caught.value.kind


async def test_a_rebalance_is_waited_for(connect_server: ConnectServer) -> None:
    """409 is no answer; the next one is."""
    connect_server.status, connect_server.times = 409, 2
    async with opened(connect_server.client()) as client:
        assert "connector.class" in await client.config()
    assert 3 == len(connect_server.requests)


async def test_a_rebalance_without_end_is_told(connect_server: ConnectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not waited for in silence for ever."""
    monkeypatch.setattr(module, "REBALANCE_SECONDS_MAX", 0.3)
    connect_server.status = 409
    error = await refused(connect_server.client())
    assert (ErrorKind.CONNECTION, True) == (error.kind, "rebalancing" in error.message)


@pytest.mark.parametrize(
    "status,body,kind",
    [
        (500, '{"message": "s3cret"}', ErrorKind.CONNECTION),
        (503, "s3cret", ErrorKind.CONNECTION),
        (401, "s3cret", ErrorKind.PERMISSION),
        (403, "s3cret", ErrorKind.PERMISSION),
        (200, "<html>s3cret", ErrorKind.CONFIG),
        (200, "[1]", ErrorKind.CONFIG),
        (404, "<html>s3cret", ErrorKind.CONNECTION),  # as a worker that starts
        (404, '{"servlet": "s3cret", "message": "Not Found", "status": "404"}', ErrorKind.CONNECTION),  # likewise
        (400, '{"message": "s3cret"}', ErrorKind.CONFIG),
        (200, '{"a": "' + "x" * (17 << 20) + '"}', ErrorKind.CONFIG),
    ],
)
async def test_other_answers_get_their_kind(
    connect_server: ConnectServer, status: int, body: str, kind: ErrorKind
) -> None:
    """A sick server is tried again later, a wrong URL is not; what was answered is not repeated."""
    connect_server.status, connect_server.body = status, body
    assert kind == (await refused(connect_server.client())).kind


async def test_nobody_answers(connect_server: ConnectServer, unused_tcp_port: int) -> None:
    """A closed port and a server that is silent are both lost connections."""
    error = await refused(ConnectClient(f"http://127.0.0.1:{unused_tcp_port}", "crm"))
    assert ErrorKind.CONNECTION == error.kind
    connect_server.silent = True
    error = await refused(connect_server.client(timeout_seconds=0.2))
    assert (ErrorKind.CONNECTION, True) == (error.kind, "in time" in error.message)


async def test_asking_can_be_cancelled(connect_server: ConnectServer) -> None:
    """The caller's stop is not held up by a silent server."""
    connect_server.silent = True
    async with opened(connect_server.client()) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.config(), 0.1)
