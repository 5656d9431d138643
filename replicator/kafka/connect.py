"""A client of Kafka Connect's REST API: what Debezium's connector is told to do, and how far it has come.

Reference: https://kafka.apache.org/documentation/#connect_rest (`/offsets` since Kafka 3.5, KIP-875).
A connector's configuration holds passwords, so no message here repeats anything of it, nor what Connect answered.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS: Final = 10.0
REBALANCE_SECONDS_MAX: Final = 30.0
"""A rebalance of Connect's workers ends by itself; longer than this somebody should know."""
_REBALANCE_POLL_SECONDS: Final = 0.25
_BYTES_MAX: Final = 16 << 20


@dataclass(frozen=True)
class Worker:
    """Who answers at the URL.

    Attributes:
        version: of Kafka.
        cluster: id of the Kafka cluster that it works for.

    """

    version: str
    cluster: str


@dataclass(frozen=True)
class ConnectorStatus:
    """What Connect says of a connector.

    Attributes:
        state: RUNNING, PAUSED, STOPPED, FAILED, UNASSIGNED, RESTARTING.
        tasks: of each task, likewise.

    """

    state: str
    tasks: tuple[str, ...]

    @property
    def trouble(self) -> str | None:
        """Why it fills no topics, in words; None while it does."""
        if self.state != "RUNNING":
            return f"it is {self.state}"
        if not self.tasks:
            return "it has no task"
        broken = next((task for task in self.tasks if task != "RUNNING"), None)
        return None if broken is None else f"its task is {broken}"


@dataclass(frozen=True)
class SourceOffset:
    """How far a Debezium connector for PostgreSQL has come: its committed source offset.

    Connect commits an offset once the record that carries it, and every record before it, was acknowledged by Kafka.
    Of the LSNs in it (PostgresOffsetContext, PostgresStreamingChangeEventSource) only `lsn_commit` is a proof: it is
    set when a transaction's COMMIT was read, after all of its changes were queued, so what carries it lies behind
    them. (`lsn` is that of the record's own change, and during a snapshot that of its beginning, when its rows are
    still to come; `lsn_proc` is set in the middle of transactions.)

    Attributes:
        server: `topic.prefix`; after that was changed the old one's offset stays.
        lsn_commit: where the newest transaction ended that was read whole; None before the first one.
        snapshot: an initial or blocking snapshot is not yet complete.

    """

    server: str
    lsn_commit: int | None = None
    snapshot: bool = False


class ConnectClient:
    """One connector of one Kafka Connect cluster, asked by REST; changes nothing there.

    Args:
        url: of any worker, such as http://connect:8083.
        name: the connector's.
        timeout_seconds: of one request.

    Every method raises `ReplicatorError`: CONNECTION when nobody answers in time, or Connect is busy for longer than
    it should be; PERMISSION; CONFIG when there is no such connector, or the URL is not Connect's.

    """

    def __init__(self, url: str, name: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.url = url.rstrip("/")
        self.name = name
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def config(self) -> dict[str, str]:
        """The connector's configuration, secrets included, as texts."""
        found = await self._of_connector("config", dict)
        return {str(key): str(value) for key, value in found.items() if value is not None}

    async def status(self) -> ConnectorStatus:
        """Whether it runs."""
        found = await self._of_connector("status", dict)
        connector = found.get("connector")
        tasks = found.get("tasks")
        if not isinstance(connector, dict) or not isinstance(tasks, list):
            raise self._not_connect()
        return ConnectorStatus(
            str(connector.get("state")), tuple(str(task.get("state")) for task in tasks if isinstance(task, dict))
        )

    async def offsets(self) -> tuple[SourceOffset, ...]:
        """Its committed source offsets, one for each `topic.prefix` that it has had; none before the first commit."""
        found = await self._of_connector("offsets", dict)
        offsets = found.get("offsets")
        if not isinstance(offsets, list):
            raise self._not_connect()
        return tuple(_source_offset(one) for one in offsets if isinstance(one, dict))

    async def worker(self) -> Worker:
        """Who answers."""
        status, body = await self._get("/")
        if status != 200 or not isinstance(body, dict) or "version" not in body:
            raise self._not_connect()
        return Worker(str(body["version"]), str(body.get("kafka_cluster_id", "")))

    async def plugin_version(self, connector_class: str) -> str | None:
        """The version of the plugin that this class comes from; None where Connect doesn't know it."""
        status, body = await self._get("/connector-plugins")
        if status != 200 or not isinstance(body, list):
            raise self._not_connect()
        # A configuration may also name a class by its simple name, or by that without "Connector".
        for plugin in body:
            known = str(plugin.get("class")) if isinstance(plugin, dict) else ""
            simple = known.rpartition(".")[2]
            if connector_class in {known, simple, simple.removesuffix("Connector")}:
                return str(plugin.get("version"))
        return None

    async def close(self) -> None:
        """End its connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _of_connector(self, part: str, kind: type[dict[str, Any]]) -> dict[str, Any]:
        """`/connectors/NAME/part`."""
        status, body = await self._get(f"/connectors/{quote(self.name, safe='')}/{part}")
        if status == 404:
            raise await self._not_found(part)
        if status != 200 or not isinstance(body, kind):
            raise self._not_connect()
        return body

    async def _not_found(self, part: str) -> ReplicatorError:
        """Why there is no such thing: another connector's name, or an old Connect."""
        status, body = await self._get("/connectors")
        if status != 200 or not isinstance(body, list):
            return self._not_connect()
        names = sorted(str(name) for name in body)
        if self.name in names:
            return ReplicatorError(
                f"Kafka Connect at {self.url} doesn't tell the {part} of a connector",
                kind=ErrorKind.CONFIG,
                hint="Offsets are told since Kafka 3.5: upgrade Connect's workers",
            )
        return ReplicatorError(
            f"Kafka Connect at {self.url} has no connector {self.name}; it has {', '.join(names) or 'none'}",
            kind=ErrorKind.CONFIG,
            hint="Correct stream.connect_name",
        )

    async def _get(self, path: str) -> tuple[int, Any]:
        """Status and document of an answer; a rebalance (409) is waited for.

        A worker that starts answers everything with 404, for seconds, before it knows its own API: by its HTTP server,
        without the `error_code` of its own. So does another server at a wrong URL, which is tried again as well.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION; CONFIG for any other answer that is no JSON.

        """
        ends = time.monotonic() + REBALANCE_SECONDS_MAX
        while True:
            status, text = await self._request(path)
            if status != 409 or time.monotonic() >= ends:
                break
            await asyncio.sleep(_REBALANCE_POLL_SECONDS)
        if status in {401, 403}:
            raise ReplicatorError(
                f"Kafka Connect at {self.url} refuses to answer ({status})",
                kind=ErrorKind.PERMISSION,
                hint="Its REST API must be readable from here",
            )
        if status == 409:
            raise self._lost(f"its workers have been rebalancing for {REBALANCE_SECONDS_MAX:.0f} s")
        if status >= 500:
            raise self._lost(f"it answered {status}")
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if status == 404 and not (isinstance(body, dict) and "error_code" in body):
            raise self._lost("it starts, or isn't Kafka Connect's REST API")
        if body is None:
            raise self._not_connect()
        return status, body

    async def _request(self, path: str) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, headers={"Accept": "application/json"})
        try:
            async with self._session.get(f"{self.url}{path}") as answer:
                body = bytearray()
                async for block in answer.content.iter_any():
                    body += block
                    if len(body) > _BYTES_MAX:
                        raise self._not_connect()
                return answer.status, bytes(body)
        except TimeoutError as error:
            raise self._lost("it doesn't answer in time") from error
        except aiohttp.InvalidURL as error:
            raise self._not_connect() from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(f"{type(error).__name__}") from error

    def _lost(self, why: str) -> ReplicatorError:
        return ReplicatorError(
            f"Kafka Connect at {self.url} can't be asked: {why}",
            kind=ErrorKind.CONNECTION,
            hint="stream.connect_url names the REST API of a worker",
        )

    def _not_connect(self) -> ReplicatorError:
        return ReplicatorError(
            f"what answers at {self.url} is not Kafka Connect's REST API",
            kind=ErrorKind.CONFIG,
            hint="Correct stream.connect_url, such as http://connect:8083",
        )


def _source_offset(described: Mapping[str, Any]) -> SourceOffset:
    """One entry of `/offsets`; its offset is null once it was deleted."""
    partition, offset = described.get("partition"), described.get("offset")
    server = str(partition.get("server")) if isinstance(partition, dict) else ""
    if not isinstance(offset, dict):
        return SourceOffset(server)
    kind = str(offset.get("snapshot", False)).lower()  # 2.7: true; later: initial, blocking, incremental
    whole = offset.get("snapshot_completed") is True or offset.get("last_snapshot_record") is True
    return SourceOffset(
        server,
        lsn_commit=_lsn(offset.get("lsn_commit")),
        snapshot=kind not in {"false", "none", "incremental"} and not whole,
    )


def _lsn(value: Any) -> int | None:
    """An LSN as Java has it: 64 bits with a sign."""
    return value & 0xFFFF_FFFF_FFFF_FFFF if isinstance(value, int) and not isinstance(value, bool) else None
