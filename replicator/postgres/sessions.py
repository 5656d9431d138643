"""Sessions of a feed's holder on the target: registered under its epoch, marked, in the role that the user may take."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final, Literal

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres import state_sql
from replicator.postgres.partition_ledger import PartitionLedger, reassigned
from replicator.postgres.session import connect
from replicator.postgres.wire import Command, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from replicator.postgres.takeover import Holder
    from replicator.postgres.writing import StatementCache

Role = Literal["replica", "origin"]
Marks = Literal["origin", "message"]

_MESSAGES_SINCE: Final = 140000  # pgoutput's option `messages`
_NO_ORIGIN: Final = frozenset({ErrorKind.PERMISSION, ErrorKind.RESOURCES})


def origin_prefix(connector: str, feed: str) -> str:
    """What the origins and markers of a feed begin with: what its other feed drops (P9)."""
    return f"{connector_prefix(connector)}{feed}/"


def connector_prefix(connector: str) -> str:
    """What the origins of both feeds of a connector begin with."""
    return f"replicator/{connector}/"


def lock_space(connector: str) -> int:
    """First key of the connector's advisory locks in a database; the second is 0 for the gate, or 1 + stripe."""
    return zlib.crc32(connector.encode()) - (1 << 31)


@dataclass(slots=True)
class FeedSession:
    """One session of the holder.

    Attributes:
        wire: the session.
        holder: under whose epoch it writes.
        origin: name of its replication origin, and content of its marker.
        marks: how its transactions are told from an application's; None: not at all.
        replica: whether it is in role `replica`; else constraints are deferred in each transaction.
        statements: cache of built statements.

    """

    wire: Wire
    holder: Holder
    origin: str
    marks: Marks | None
    replica: bool
    statements: StatementCache

    @property
    def mark(self) -> Command | None:
        """The marker that opens each transaction, where there is no origin."""
        if self.marks != "message":
            return None
        return Command(state_sql.MARK, [self.origin.encode()], doing="marking the transaction")

    @property
    def lock_space(self) -> bytes:
        """As a parameter."""
        return b"%d" % lock_space(self.holder.connector)


async def open_session(
    dsn: str,
    holder: Holder,
    purpose: str,
    lost: Callable[[], ReplicatorError],
    *,
    lane: bool,
    role: Role,
    statements: StatementCache,
) -> FeedSession:
    """Open a session that may write under the holder's epoch.

    Args:
        dsn: of the target.
        holder: see `takeover`.
        purpose: the lane's number or the worker's name; unique among the holder's sessions.
        lost: makes the error of a holder that is none any more.
        lane: whether it is a lane's. A job's is marked by message where it can be: a place for an origin stays taken
            when the session ends, and native subscriptions on the server need such places too.
        role: as `detect_role` found it.
        statements: shared by all sessions of the target.

    Raises:
        ReplicatorError: SUPERSEDED; CONNECTION, PERMISSION, RESOURCES.

    """
    wire = Wire(await connect(dsn, f"{holder.connector}/{holder.feed}/{purpose}"))
    try:
        register = Command(state_sql.REGISTER, [*holder.parameters, purpose.encode()], doing="registering the session")
        await _run_first(wire, [register], role, lost)
        origin = origin_prefix(holder.connector, holder.feed) + purpose
        marks: Marks | None = "message" if _has_messages(wire) else None
        if lane or marks is None:
            marks = await _take_origin(wire, origin) or marks
        if lane:
            await _note_marks(wire, holder, purpose, marks, again=True)
    except BaseException:
        await wire.close()
        raise
    return FeedSession(wire, holder, origin, marks, role == "replica", statements)


async def open_member_session(
    dsn: str, ledger: PartitionLedger, purpose: str, *, role: Role, statements: StatementCache
) -> FeedSession:
    """Open a session that may write what the partitions of this member bring.

    Its origin is the first of the feed's that nobody holds: there are as many as members at once, however often they
    come and go.

    Args:
        dsn: of the target.
        ledger: of this member.
        purpose: the lane's number.
        role: as `detect_role` found it.
        statements: shared by all sessions of the target.

    Raises:
        ReplicatorError: REASSIGNED; CONNECTION, PERMISSION, RESOURCES.

    """
    feed = ledger.feed
    wire = Wire(await connect(dsn, f"{feed.connector}/{feed.feed}/{purpose}"))
    try:
        await _run_first(wire, ledger.registering(), role, lambda: reassigned(feed))
        origin, marks = await _take_free_origin(wire, f"{origin_prefix(feed.connector, feed.feed)}{purpose}")
        if marks is None and _has_messages(wire):
            marks = "message"
        # Others of the group have sessions of this purpose: one without an origin speaks for all.
        await _note_marks(wire, feed, purpose, marks, again=False)
    except BaseException:
        await wire.close()
        raise
    return FeedSession(wire, feed, origin, marks, role == "replica", statements)


async def _note_marks(wire: Wire, holder: Holder, purpose: str, marks: Marks | None, *, again: bool) -> None:
    """Keep since when all rows of this lane carry an origin; `again`: also where an earlier session had none."""
    parameters = [*holder.parameters[:2], purpose.encode()]
    doing = "noting whether transactions carry an origin"
    if marks == "origin":
        await wire.run(Command(state_sql.MARKED, [*parameters, b"t" if again else b"f"], doing=doing))
    else:
        await wire.run(Command(state_sql.UNMARKED, parameters, doing=doing))


def _has_messages(wire: Wire) -> bool:
    return wire.connection.info.server_version >= _MESSAGES_SINCE


async def _run_first(wire: Wire, register: list[Command], role: Role, lost: Callable[[], ReplicatorError]) -> None:
    commands = [
        *register,
        Command(state_sql.SESSION, doing="choosing plan settings"),
        Command(state_sql.QUICK_DEADLOCKS, doing="choosing when to look for deadlocks"),
    ]
    if role == "replica":
        commands.append(Command(state_sql.REPLICA_SESSION, doing="taking role replica"))
    try:
        await wire.run(*commands)
    except ReplicatorError as error:
        if error.sqlstate != state_sql.DIVISION_BY_ZERO:
            raise
        raise lost() from error


async def _take_free_origin(wire: Wire, prefix: str) -> tuple[str, Marks | None]:
    for number in count():
        origin = f"{prefix}_{number}"
        try:
            return origin, await _take_origin(wire, origin)
        except ReplicatorError as error:
            # Another member's; or it has just been made by one that will hold it.
            if error.kind not in (ErrorKind.SLOT_BUSY, ErrorKind.UNIQUE):
                raise
    raise AssertionError


async def _take_origin(wire: Wire, origin: str) -> Marks | None:
    """Set up the session's replication origin; None where rights or free places lack.

    A session holds an origin alone: that of a session that has just ended may be busy for a moment.
    """
    doing = f"taking replication origin {origin}"
    name = [origin.encode()]
    try:
        await wire.run(Command(state_sql.ORIGIN_CREATE, name, doing=doing))
        await wire.run(Command(state_sql.ORIGIN_SETUP, name, doing=doing))
    except ReplicatorError as error:
        if error.kind not in _NO_ORIGIN:
            raise
        return None
    return "origin"


async def detect_role(wire: Wire) -> Role:
    """Whether this user may write as a replica, so that triggers and foreign keys don't do their work twice."""
    try:
        await wire.run(
            Command(state_sql.BEGIN, doing="trying role replica"),
            Command(state_sql.ROLE_REPLICA, doing="trying role replica"),
        )
    except ReplicatorError as error:
        if error.kind is not ErrorKind.PERMISSION:
            raise
        role: Role = "origin"
    else:
        role = "replica"
    await wire.run(Command(state_sql.ROLLBACK, doing="trying role replica"))
    return role
