"""Who applies which partition of a log, and up to where: `partitions.Ledger` in the target.

Each partition has an epoch of its own, so several processes (members of a consumer group) apply one feed at once. A
transaction compares and moves, in one statement before its COMMIT, the rows of exactly those partitions that it
applied. Until then it holds no lock of theirs, but it holds those of the rows that it wrote: so whoever takes a
partition over from a member that has not given it up ends all sessions of that member, which has lost its partitions
and begins anew if it lives.
"""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres import partition_sql, state_sql
from replicator.postgres.copying import own
from replicator.postgres.log_identity import compare_identity
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors
from replicator.postgres.state import fetch
from replicator.postgres.takeover import Holder, end_sessions
from replicator.postgres.wire import Command

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from psycopg import AsyncConnection

    from replicator.partitions import Partition
    from replicator.ports import TargetTransaction

# Longer than `idle_in_transaction_session_timeout` of our sessions, as in `takeover`.
_PATIENCE_SECONDS: Final = 90.0


class _Held(NamedTuple):
    epoch: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class Move:
    """What one transaction moves: sorted by partition.

    Attributes:
        partitions: topic and number.
        held: epoch, and the offset that this process wrote last.
        offsets: the next ones.
        marks: what is kept beside them; None leaves what is there.

    """

    partitions: tuple[Partition, ...]
    held: tuple[_Held, ...]
    offsets: tuple[int, ...]
    marks: tuple[str | None, ...]


class PartitionLedger:
    """See `partitions.Ledger`. One session of one process; a new session has a new one.

    Args:
        dsn: the target.
        connector, feed: whose partitions.

    Attributes:
        member: who holds: host, process, and what makes it unique.
        feed: whose partitions; the feed's epoch is none of theirs.
        in_doubt: a session was lost inside a transaction: its backend may still hold locks, so nothing is given up in
            good order any more.

    """

    def __init__(self, dsn: str, *, connector: str, feed: str) -> None:
        self.member = f"{platform.node()} process {os.getpid()} {secrets.token_hex(4)}"
        self._dsn = dsn
        self.feed = Holder(connector, feed, 0)
        self.in_doubt = False
        self._held: dict[Partition, _Held] = {}
        self._connection: AsyncConnection[Any] | None = None
        self._busy = asyncio.Lock()

    # -- the port ------------------------------------------------------------------------------------------------------

    async def take_over(self, partitions: Collection[Partition]) -> dict[Partition, int | None]:
        """Become the one who applies these partitions.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION; TIMEOUT when a row stays locked for longer than any session of ours
                stays idle.

        """
        if not partitions:
            return {}
        wanted = sorted(partitions)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        async with self._busy:
            connection = await self._session()
            while (taken := await self._take(connection, wanted)) is None:
                if time.monotonic() > deadline:
                    raise self._locked(wanted)
            for topic, number, epoch, offset, _ in taken:
                self._held[topic, number] = _Held(epoch, offset)
            # One that opened a session between the two moves nothing any more, but may hold locks of rows.
            await self._end_members(connection, {row[4] for row in taken} - {None, self.member})
            await self._fetch(partition_sql.MEMBERS_FORGET)
        return {(topic, number): offset for topic, number, _, offset, _ in taken}

    async def begin(self, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
        """Store where partitions begin that nobody has begun; returns where they do begin."""
        if not offsets:
            return {}
        wanted = sorted(offsets)
        async with self._busy:
            starts = [offsets[one] for one in wanted]
            rows = await self._fetch(partition_sql.BEGIN, *_columns(wanted), starts)
        begun = {(topic, number): int(offset) for topic, number, offset in rows}
        for one, offset in begun.items():
            held = self._held.get(one)
            if held is not None and held.offset is None:
                self._held[one] = held._replace(offset=offset)
        return begun

    async def release(self, partitions: Collection[Partition]) -> None:
        """Give partitions up whose transactions have ended; those that it doesn't hold are passed over."""
        mine = [one for one in sorted(partitions) if one in self._held]
        if not mine:
            return
        epochs = [self._held.pop(one).epoch for one in mine]
        if self.in_doubt:
            return  # whoever takes them over ends what is left of this member
        async with self._busy:
            await self._fetch(partition_sql.RELEASE, *_columns(mine), epochs)

    async def offsets(self) -> dict[Partition, int]:
        """The next offset of every partition that somebody has begun."""
        async with self._busy:
            return {(topic, number): offset for topic, number, offset in await self._fetch(partition_sql.BEGUN)}

    def beginning(self, offsets: Mapping[Partition, int]) -> str:
        """The statement, for a person, that has partitions begin there that nobody has begun, and were taken over."""
        rows = ", ".join(f"('{topic}', {number}, {offset})" for (topic, number), offset in sorted(offsets.items()))
        return (
            f"UPDATE replicator.partition AS p SET next_offset = b.at FROM (VALUES {rows}) AS b (topic, number, at) "
            f"WHERE p.connector = '{self.feed.connector}' AND p.feed = '{self.feed.feed}' AND p.topic = b.topic "
            "AND p.partition = b.number AND p.next_offset IS NULL;"
        )

    async def marks(self, partitions: Collection[Partition]) -> dict[Partition, str]:
        """The mark that was kept last beside the offset of each of these partitions, where one was."""
        if not partitions:
            return {}
        async with self._busy:
            rows = await self._fetch(partition_sql.MARKS, *_columns(sorted(partitions)))
        return {(topic, number): mark for topic, number, mark in rows}

    def forgetting(self, partition: Partition) -> str:
        """The statement, for a person, that has the target forget a partition's mark."""
        return (
            f"UPDATE replicator.partition SET mark = NULL WHERE connector = '{self.feed.connector}' "
            f"AND feed = '{self.feed.feed}' AND topic = '{partition[0]}' AND partition = {partition[1]};"
        )

    async def identity(self, cluster: str, topics: Mapping[str, str]) -> None:
        """Compare the log with the one that the stored offsets are of, or store what isn't known yet."""
        async with self._busy:
            stored = await self._fetch(partition_sql.IDENTITY)
            compare_identity(self.feed.connector, self.feed.feed, cluster, topics, stored)
            names = sorted(topics.keys() - {topic for topic, *_ in stored})
            if not names:
                return
            seen = [topics[name].rpartition("/") for name in names]
            ids, counts = [one[0] for one in seen], [one[2] for one in seen]
            await self._fetch(partition_sql.IDENTITY_SEE, cluster, names, ids, counts)
            stored = await self._fetch(partition_sql.IDENTITY)  # another process may have seen another log
        compare_identity(self.feed.connector, self.feed.feed, cluster, topics, stored)

    async def close(self) -> None:
        """End its connection. Idempotent."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _take(self, connection: AsyncConnection[Any], wanted: list[Partition]) -> list[tuple[Any, ...]] | None:
        """Raise the epochs; None when somebody keeps a row locked."""
        formers = await self._fetch(partition_sql.FORMER, *_columns(wanted), self.member)
        await self._end_members(connection, {former for (former,) in formers})
        try:
            return await self._fetch(partition_sql.TAKE, *_columns(wanted), self.member)
        except ReplicatorError as error:
            if error.kind is not ErrorKind.TIMEOUT:
                raise
            return None

    def _locked(self, wanted: list[Partition]) -> ReplicatorError:
        names = ", ".join(f"{topic}/{number}" for topic, number in wanted)
        return ReplicatorError(
            f"partitions {names} of feed {self.feed.connector}/{self.feed.feed} stay locked by another session",
            kind=ErrorKind.TIMEOUT,
            table="replicator.partition",
            hint="nothing was taken over; pg_locks in the target shows which session, and whose",
        )

    # -- what transactions and sessions need ---------------------------------------------------------------------------

    @property
    def held(self) -> frozenset[Partition]:
        """What this process applies now."""
        return frozenset(self._held)

    def parse(self, text: str) -> Move:
        """What `Source.progress` says, beside what is held: `topic/partition:offset[@mark]`, joined by commas.

        Raises:
            ReplicatorError: REASSIGNED for a partition that is not held any more; INTERNAL for an offset that goes
                back.

        """
        wanted: dict[Partition, int] = {}
        marks: dict[Partition, str | None] = {}
        for part in filter(None, text.split(",")):
            place, _, mark = part.partition("@")
            place, _, offset = place.rpartition(":")
            topic, _, number = place.rpartition("/")
            wanted[topic, int(number)] = int(offset)
            marks[topic, int(number)] = mark or None
        partitions = tuple(sorted(wanted))
        for one in partitions:
            held = self._held.get(one)
            if held is None:
                raise reassigned(self.feed, one)
            if held.offset is not None and wanted[one] < held.offset:
                raise ReplicatorError(
                    f"{one[0]}/{one[1]} would go back from offset {held.offset} to {wanted[one]}",
                    kind=ErrorKind.INTERNAL,
                )
        return Move(
            partitions,
            tuple(self._held[one] for one in partitions),
            tuple(wanted[one] for one in partitions),
            tuple(marks[one] for one in partitions),
        )

    async def check_held(self) -> None:
        """See whether this process still holds all that it believes to hold, after a session of its was lost.

        Raises:
            ReplicatorError: REASSIGNED, CONNECTION.

        """
        partitions = sorted(self._held)
        if not partitions:
            return
        epochs = [self._held[one].epoch for one in partitions]
        async with self._busy:
            try:
                await self._fetch(partition_sql.STILL_HELD.decode(), *_columns(partitions), epochs)
            except ReplicatorError as error:
                if error.sqlstate != state_sql.DIVISION_BY_ZERO:
                    raise
                raise reassigned(self.feed) from error

    async def hold(self, transaction: TargetTransaction, topics: Collection[str]) -> set[Partition]:
        """Have nobody take over or give up a partition of these topics until the transaction ends; returns those that
        anybody has begun or holds. One that this process doesn't hold any more has ended this transaction's session.
        """
        names = _array(f'"{topic}"' for topic in sorted(topics))
        result = await own(transaction).execute(partition_sql.HOLD, *self._keys, names, doing="holding partitions")
        return {(result.get_value(row, 0).decode(), int(result.get_value(row, 1))) for row in range(result.ntuples)}

    def moving(self, move: Move, commit_time: float | None) -> Command:
        """The statement that moves partitions, or fails with a division by zero when one is not held any more."""
        parameters = [
            *self._keys,
            *_arrays(move.partitions, move.held),
            _array("NULL" if held.offset is None else str(held.offset) for held in move.held),
            _array(map(str, move.offsets)),
            _array("NULL" if mark is None else f'"{mark}"' for mark in move.marks),
            None if commit_time is None else repr(commit_time).encode(),
        ]
        return Command(partition_sql.MOVE, parameters, doing="moving the offsets")

    def moved(self, move: Move) -> None:
        """The COMMIT was acknowledged."""
        for one, before, offset in zip(move.partitions, move.held, move.offsets, strict=True):
            if self._held.get(one) == before:
                self._held[one] = before._replace(offset=offset)

    def registering(self) -> list[Command]:
        """What a new session of this member executes first: a successor finds it, or it finds the successor."""
        member = self.member.encode()
        partitions = tuple(sorted(self._held))
        held = [self._held[one] for one in partitions]
        return [
            Command(partition_sql.REGISTER, [*self._keys, member], doing="registering the session"),
            Command(partition_sql.STILL_HELD, [*self._keys, *_arrays(partitions, held)], doing="comparing epochs"),
        ]

    @property
    def _keys(self) -> tuple[bytes, bytes]:
        return self.feed.parameters[:2]

    # -- the session ---------------------------------------------------------------------------------------------------

    async def _session(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            connector, feed = self.feed.connector, self.feed.feed
            connection = await connect(self._dsn, f"{connector}/{feed}/ledger")
            with driver_errors("setting up the ledger's session"):
                await connection.execute(partition_sql.LOCK_TIMEOUT)
            self._connection = connection
        return self._connection

    async def _fetch(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own: nothing stays locked when this process is frozen."""
        connector, feed = self.feed.connector, self.feed.feed
        connection = await self._session()
        with driver_errors(f"reading or taking partitions of feed {connector}/{feed}"):
            return await fetch(connection, query, connector, feed, *parameters)

    async def _end_members(self, connection: AsyncConnection[Any], members: set[str]) -> None:
        if members:
            connector, feed = self.feed.connector, self.feed.feed
            parameters = (connector, feed, sorted(members))
            await end_sessions(connection, f"{connector}/{feed}", partition_sql.MEMBERS, *parameters)


async def join(connection: AsyncConnection[Any], connector: str, feed: str) -> None:
    """See that the feed is there, for whoever applies some of its partitions.

    Args:
        connection: a session on the target, in autocommit.
        connector: its name.
        feed: 'forward' or 'reverse'.

    Raises:
        ReplicatorError: CONFIG when it has begun from a slot; CONNECTION, PERMISSION.

    """
    with driver_errors(f"joining feed {connector}/{feed}"):
        await fetch(connection, partition_sql.JOIN, connector, feed)
        begun = await fetch(connection, partition_sql.FROM_SLOT, connector, feed)
    if begun:
        raise ReplicatorError(
            f"feed {connector}/{feed} has begun from a slot, and its position {begun[0][0]} says nothing about Kafka",
            kind=ErrorKind.CONFIG,
            hint="set stream.kind back to slot, or give the connector another name and let it copy all tables anew",
        )


def reassigned(feed: Holder, partition: Partition | None = None) -> ReplicatorError:
    """The error of a member that has lost a partition."""
    which = "a partition" if partition is None else f"{partition[0]}/{partition[1]}"
    return ReplicatorError(
        f"another process applies {which} of feed {feed.connector}/{feed.feed} now",
        kind=ErrorKind.REASSIGNED,
        hint="this process wrote nothing of it since, and joins its group again",
    )


def _columns(partitions: Iterable[Partition]) -> tuple[list[str], list[int]]:
    topics, numbers = zip(*partitions, strict=True)
    return list(topics), list(numbers)


def _arrays(partitions: Collection[Partition], held: Iterable[_Held]) -> list[bytes]:
    """As parameters `$3` to `$5`, in text format."""
    topics = (f'"{topic}"' for topic, _ in partitions)  # a topic's name has no other signs than [a-zA-Z0-9._-]
    numbers = (str(number) for _, number in partitions)
    return [_array(topics), _array(numbers), _array(str(one.epoch) for one in held)]


def _array(parts: Iterable[str]) -> bytes:
    return ("{" + ",".join(parts) + "}").encode()
