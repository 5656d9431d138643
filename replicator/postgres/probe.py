"""The plain session beside a slot's stream: what the stream itself can't answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final

import psycopg

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.session import connect
from replicator.postgres.sqlstate import driver_errors

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_OLDEST: Final = 130_000

_SOURCE: Final = """
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4, pg_catalog.pg_is_in_recovery(),
       EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = %s)
"""
_INSERT_LSN: Final = """
SELECT pg_catalog.pg_current_wal_insert_lsn() OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn,
       pg_catalog.current_setting('wal_block_size')::pg_catalog.int8,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))
"""
_RETAINED: Final = """
SELECT pg_catalog.pg_current_wal_lsn() OPERATOR(pg_catalog.-) restart_lsn
FROM pg_catalog.pg_replication_slots WHERE slot_name = %s
"""
_SEGMENT_HEADER_BYTES: Final = 40
_PAGE_HEADER_BYTES: Final = 24


class Probe:
    """A session on the source, opened when it is needed and again after it broke."""

    def __init__(self, dsn: str, feed: str) -> None:
        self._dsn = dsn
        self._feed = feed
        self._session: AsyncConnection[Any] | None = None
        self._shut: list[AsyncConnection[Any]] = []
        self._opening = asyncio.Lock()

    async def session(self) -> AsyncConnection[Any]:
        """The open session, in autocommit."""
        async with self._opening:
            if self._session is None or self._session.closed:
                self._session = await connect(self._dsn, f"{self._feed}/source")
                await self._bury()
            return self._session

    async def check_source(self, publication: str) -> int:
        """Whether this server can be the source; returns its version, `server_version_num`.

        Raises:
            ReplicatorError: CONFIG.

        """
        version, standby, published = await self._row("asking the source what it is", _SOURCE, publication)
        wrong = hint = None
        if version < _OLDEST:
            wrong, hint = f"the source is PostgreSQL {version // 10_000}", "Versions 13 and later can be a source"
        elif standby:
            wrong, hint = "the source is a standby", "Name the primary server in the connector's dsn"
        elif not published:
            wrong = f"publication {publication} does not exist on the source"
            hint = "Make it, or let the connector make it (stream.create: true); the slot must be made after it"
        if wrong is not None:
            raise ReplicatorError(wrong, kind=ErrorKind.CONFIG, hint=hint)
        return int(version)

    async def insert_lsn(self) -> int:
        """Where the next WAL record will end up: everything committed before the call lies before it."""
        doing = "reading the source's WAL position"
        lsn, block_bytes, segment_bytes = await self._row(doing, _INSERT_LSN)
        # At a page's beginning the server names the place behind the page's header. No record ends there, so an idle
        # server would never be seen to reach it; and nothing lies between.
        if lsn % segment_bytes == _SEGMENT_HEADER_BYTES:
            return int(lsn) - _SEGMENT_HEADER_BYTES
        return int(lsn) - (_PAGE_HEADER_BYTES if lsn % block_bytes == _PAGE_HEADER_BYTES else 0)

    async def retained_wal_bytes(self, slot: str) -> int | None:
        """How much WAL the slot holds back; None when it is gone or invalidated."""
        row = await self._row("reading the slot's lag", _RETAINED, slot)
        return None if not row or row[0] is None else max(0, int(row[0]))

    async def _row(self, doing: str, query: str, *params: str) -> tuple[Any, ...]:
        session = await self.session()
        with driver_errors(doing):
            return await (await session.execute(query.encode(), params)).fetchone() or ()

    def shut(self) -> None:
        """End the session's network, so that a query that waits on it fails now (a close would leave it waiting).

        The next caller gets a new session.
        """
        session, self._session = self._session, None
        if session is not None:
            self._shut.append(session)
            with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(session.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """End the session. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._bury()

    async def _bury(self) -> None:
        while self._shut:
            await self._shut.pop().close()
