"""Replication slots on a source: made, checked, dropped. What can't be continued from says what is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.lsn import format_lsn, parse_lsn
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors

if TYPE_CHECKING:
    from psycopg import AsyncConnection

PLUGIN: Final = "pgoutput"
_FREE_SECONDS_MAX: Final = 10.0
_POLL_SECONDS: Final = 0.05

# to_jsonb, because every version from 13 to 18 has added columns to this view.
_READ: Final = """
SELECT pg_catalog.to_jsonb(s), pg_catalog.current_database()::pg_catalog.text, a.application_name,
       a.client_addr::pg_catalog.text, pg_catalog.pg_is_in_recovery()
FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
WHERE s.slot_name = %s
"""
_MAKE: Final = "SELECT lsn::pg_catalog.text FROM pg_catalog.pg_create_logical_replication_slot(%s, %s)"
_EVICT: Final = """
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = %s AND application_name = %s
"""


@dataclass(frozen=True)
class Slot:
    """A logical slot of ours, as the server shows it.

    Attributes:
        name: unique on the server.
        confirmed_lsn: where it begins; everything before is gone.
        restart_lsn: the oldest WAL that it keeps.
        holder_pid: the session that reads it, None when free.
        holder_name: that session's application_name.
        holder_address: where it runs; None for a local socket.

    """

    name: str
    confirmed_lsn: int
    restart_lsn: int
    holder_pid: int | None = None
    holder_name: str | None = None
    holder_address: str | None = None


async def read_slot(connection: AsyncConnection[Any], name: str) -> Slot | None:
    """The slot, None when there is none.

    Args:
        connection: a plain session in the slot's database.
        name: the slot's.

    Raises:
        ReplicatorError: CONFIG when it is a slot that no feed can use (another database's, plugin's or kind's),
            SLOT_LOST when the server has invalidated it.

    """
    with driver_errors(f"reading the state of slot {name}"):
        row = await (await connection.execute(_READ, [name])).fetchone()
    if row is None:
        return None
    slot, database, holder, address, standby = row
    _usable(name, slot, database, standby=standby)
    lost = slot["wal_status"] == "lost" or slot.get("conflicting") or slot.get("invalidation_reason")
    if lost or slot["restart_lsn"] is None or slot["confirmed_flush_lsn"] is None:
        reason = slot.get("invalidation_reason") or "the WAL that it needs was removed"
        where = slot["confirmed_flush_lsn"] or "an unknown position"
        raise lost_slot(name, f"the server has invalidated it ({reason})", f"after {where}")
    return Slot(
        name,
        confirmed_lsn=parse_lsn(slot["confirmed_flush_lsn"]),
        restart_lsn=parse_lsn(slot["restart_lsn"]),
        holder_pid=slot["active_pid"],
        holder_name=holder,
        holder_address=address,
    )


def _usable(name: str, slot: dict[str, Any], database: str, *, standby: bool) -> None:
    wrong = None
    if slot["slot_type"] != "logical":
        wrong = "is a physical slot"
    elif slot["database"] != database:
        wrong = f"belongs to database {slot['database']}, not to {database}"
    elif slot["plugin"] != PLUGIN:
        wrong = f"uses the output plugin {slot['plugin']}, not {PLUGIN}"
    elif slot["temporary"]:
        wrong = "is temporary: it ends with the session that made it"
    elif slot.get("two_phase"):
        wrong = "was made for two-phase commit, which would show transactions before they commit"
    elif standby:
        wrong = "is on a standby; the source must be the primary server"
    if wrong is not None:
        raise ReplicatorError(
            f"replication slot {name} {wrong}",
            kind=ErrorKind.CONFIG,
            hint="Name another slot in the connector (stream.slot), or drop this one if nobody needs it",
        )


def left_out(said: str) -> ReplicatorError:
    """The error for a stream that lacks changes: the server said so, in these words."""
    return ReplicatorError(
        f"the source's stream has a gap: {said}",
        kind=ErrorKind.CONFIG,
        hint="The publication was made, or made again, after changes that the slot should send: they are in no stream."
        " Drop the slot, let the connector make it again, and begin with a new backfill",
    )


def lost_slot(name: str, why: str, range_lost: str) -> ReplicatorError:
    """The error for changes that no slot will send any more."""
    return ReplicatorError(
        f"replication slot {name} can't continue: {why}. Changes that were committed on the source {range_lost} are"
        " lost to this feed",
        kind=ErrorKind.SLOT_LOST,
        hint=f"The target keeps what it has. To go on: drop the slot (SELECT pg_drop_replication_slot('{name}')) if it"
        " is still there, then begin again with a new backfill",
    )


def check_start(slot: Slot, asked: int, insert_lsn: int) -> None:
    """Whether the slot still has everything from the checkpoint on. Pure.

    A server begins silently at the later one of the asked and the confirmed position, so both are compared here.

    Args:
        slot: as it is now.
        asked: where the target's checkpoint stands.
        insert_lsn: the end of the source's WAL.

    Raises:
        ReplicatorError: SLOT_LOST.

    """
    if slot.confirmed_lsn > asked:
        raise lost_slot(
            slot.name,
            f"it is confirmed up to {format_lsn(slot.confirmed_lsn)}, past the target's checkpoint {format_lsn(asked)}"
            " (another program read from it, or the target was restored from a backup)",
            f"between {format_lsn(asked)} and {format_lsn(slot.confirmed_lsn)}",
        )
    if asked > insert_lsn:
        raise lost_slot(
            slot.name,
            f"the source's WAL ends at {format_lsn(insert_lsn)}, before the target's checkpoint {format_lsn(asked)}"
            " (the source was restored from a backup, failed over, or is another server)",
            f"while its WAL was before {format_lsn(asked)} again",
        )


async def free_slot(connection: AsyncConnection[Any], slot: Slot, own_name: str) -> None:
    """Free a slot that a former process of the same feed holds: it lost its epoch to us, yet may be frozen.

    Args:
        connection: a plain session.
        slot: as it was read.
        own_name: application_name of this feed's replication sessions.

    Raises:
        ReplicatorError: SLOT_BUSY when somebody else holds it, or it isn't freed within 10 seconds.

    """
    if slot.holder_pid is None:
        return
    if slot.holder_name != own_name:
        raise _busy(slot)
    with driver_errors(f"ending the former session {slot.holder_pid} on slot {slot.name}"):
        try:
            await connection.execute(_EVICT, [slot.holder_pid, own_name])
        except errors.InsufficientPrivilege as refused:  # it runs as another role
            raise _busy(slot) from refused
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _FREE_SECONDS_MAX
    while loop.time() < deadline:
        now = await read_slot(connection, slot.name)
        if now is None or now.holder_pid != slot.holder_pid:
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise _busy(slot)


def _busy(slot: Slot) -> ReplicatorError:
    where = f" from {slot.holder_address}" if slot.holder_address else ""
    return ReplicatorError(
        f"replication slot {slot.name} is in use by process {slot.holder_pid}"
        f" (application_name {slot.holder_name!r}{where})",
        kind=ErrorKind.SLOT_BUSY,
        hint="Two programs can't read one slot: stop the other one, or name another slot in the connector"
        " (stream.slot). This feed tries again",
    )


async def ensure_slot(dsn: str, name: str, *, create: bool) -> tuple[int, bool]:
    """Find the slot, or make it.

    Making waits for the transactions that are running on the source. Make the publication first: a slot can't send
    what was committed before its publication existed.

    Args:
        dsn: the source's.
        name: lower-case letters, digits and underscores.
        create: off where a DBA makes it.

    Returns:
        Where it begins (L0 of a new one, an LSN), and whether it was made now.

    Raises:
        ReplicatorError: CONFIG when it lacks and `create` is off, or can't be used; SLOT_LOST; PERMISSION; RESOURCES.

    """
    async with await connect(dsn, "setup") as connection:
        found = await read_slot(connection, name)
        if found is not None:
            return found.confirmed_lsn, False
        statement = f"SELECT pg_create_logical_replication_slot('{name}', '{PLUGIN}')"
        if not create:
            raise ReplicatorError(
                f"replication slot {name} does not exist",
                kind=ErrorKind.CONFIG,
                hint=f"Run on the source: {statement}; or let the connector make it (stream.create: true)",
            )
        return await _make_slot(connection, name, statement), True


async def _make_slot(connection: AsyncConnection[Any], name: str, statement: str) -> int:
    with driver_errors(f"making replication slot {name}"):
        await connection.execute("SELECT pg_catalog.set_config('statement_timeout', '0', false)")
        try:
            row = await (await connection.execute(_MAKE, [name, PLUGIN])).fetchone()
        except errors.InsufficientPrivilege as refused:
            raise ReplicatorError(
                f"the role may not make replication slot {name}",
                kind=ErrorKind.PERMISSION,
                sqlstate=refused.sqlstate,
                hint=f"Give it the right (ALTER ROLE ... REPLICATION), or run as a role that has it: {statement}",
            ) from refused
        except errors.ObjectNotInPrerequisiteState as refused:
            raise ReplicatorError(
                f"replication slot {name} can't be made: {refused.diag.message_primary}",
                kind=ErrorKind.CONFIG,
                sqlstate=refused.sqlstate,
                hint="Logical replication needs wal_level = logical on the source, and a restart of it",
            ) from refused
    if row is None:
        raise ReplicatorError(f"the server made slot {name} without an answer", kind=ErrorKind.INTERNAL)
    return parse_lsn(row[0])


async def drop_slot(dsn: str, name: str) -> bool:
    """Drop the slot if it is there and free; returns whether it was there.

    Raises:
        ReplicatorError: SLOT_BUSY while somebody reads it.

    """
    async with await connect(dsn, "setup") as connection:
        with driver_errors(f"dropping replication slot {name}"):
            try:
                await connection.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", [name])
            except errors.UndefinedObject:
                return False
    return True
