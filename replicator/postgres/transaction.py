"""One target transaction: rows, keys, dead letters and checkpoint commit together, under the epoch that it compared.

What opens it (BEGIN, the epoch's check, the mark) is queued and travels with its first statement; the checkpoint's
compare-and-set and COMMIT travel together at its end.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres import key_map, state_sql
from replicator.postgres.wire import Command
from replicator.postgres.writing import Writer, checks
from replicator.writes import Write, WriteResult

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from replicator.events import Key
    from replicator.mapping import KeyMapping
    from replicator.ports import DeadLetter
    from replicator.postgres.progress import JobProgress
    from replicator.postgres.sessions import FeedSession
    from replicator.tables import Table

_BEGIN: Final = Command(state_sql.BEGIN, doing="beginning a transaction on the target")
_COMMIT: Final = Command(state_sql.COMMIT, doing="committing on the target")
_LAZILY: Final = Command(state_sql.LAZILY, doing="choosing how to commit")
_ROLLBACK: Final = Command(state_sql.ROLLBACK, doing="rolling back on the target")
_PING: Final = Command(state_sql.PING, doing="keeping the target's session alive")
_DEFER: Final = Command(state_sql.DEFER, doing="deferring constraints")


class PostgresTransaction:
    """See `ports.TargetTransaction`.

    Args:
        session: the lane's or job's session, idle.
        progress: what it compares, and what it moves.
        pending: keys that it makes.
        source: opens a session on the source's map of keys.

    """

    def __init__(
        self,
        session: FeedSession,
        *,
        progress: JobProgress,
        pending: key_map.PendingKeys,
        source: key_map.OpenWire | None,
    ) -> None:
        self._session = session
        self._wire = session.wire
        self._progress = progress
        self._pending = pending
        self._keys = key_map.KeyTranslator(session.wire, source, pending)
        self._writer = Writer(session)
        self._begun = False
        self._depth = 0
        self._moves: Command | None = None
        self._durable = True

    # -- the whole -----------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Send what opens the transaction now, not with its first statement; `connection` needs it."""
        if not self._begun or self._wire.queue:
            await self._run()

    async def _run(self, *commands: Command) -> list[Any]:
        if not self._begun:
            self._begun = True
            session = self._session
            opening = [_BEGIN]
            if self._progress.epoch is not None:
                opening.append(self._progress.epoch)
            if self._progress.note is not None:
                opening.append(self._progress.note)
            if session.mark is not None:
                opening.append(session.mark)
            if not session.replica:
                opening.append(_DEFER)
            self._wire.queue[:0] = opening
        try:
            return await self._wire.run(*commands)
        except ReplicatorError as error:
            raise self._superseded(error) or error from error.__cause__

    async def _copy(self, text: bytes, blocks: Iterable[bytes], *, doing: str) -> int:
        if not self._begun or self._wire.queue:
            await self._run()
        return await self._wire.copy(text, blocks, doing=doing)

    def _superseded(self, error: ReplicatorError) -> ReplicatorError | None:
        failed = self._wire.failed
        mine = (self._progress.epoch, self._moves)
        if error.sqlstate != state_sql.DIVISION_BY_ZERO or failed is None or failed not in mine:
            return None
        return self._progress.superseded()

    async def commit(self) -> bool:
        """Move the checkpoint and commit; False when there was nothing to commit.

        Raises:
            ReplicatorError: SUPERSEDED, REASSIGNED; COMMIT_UNKNOWN; or what deferred constraints say.

        """
        ending = [_COMMIT]
        if not self._begun and not self._progress.moves:
            self._wire.queue.clear()
            return False
        self._moves = self._progress.moving()
        if self._moves is not None:
            ending.insert(0, self._moves)
        if not self._durable:
            ending.insert(0, _LAZILY)
        try:
            results = await self._run(*ending)
        except ReplicatorError as error:
            if self._wire.broken and self._wire.failed in (None, _COMMIT):
                raise ReplicatorError(
                    f"the answer to COMMIT was lost ({error.message})",
                    kind=ErrorKind.COMMIT_UNKNOWN,
                    hint="the checkpoint tells, after taking over again",
                ) from error
            raise
        if results[-1].command_status != b"COMMIT":
            raise ReplicatorError("the target rolled back in place of a commit", kind=ErrorKind.INTERNAL)
        self._pending.committed()
        self._progress.committed()
        return True

    async def rollback(self) -> None:
        """Undo all; never raises: a session that can't roll back is closed, and its transaction ends with it."""
        self._wire.queue.clear()
        if self._wire.broken or not self._begun:
            return
        try:
            await self._wire.run(_ROLLBACK)
        except ReplicatorError:
            await self._wire.close()

    @property
    def connection(self) -> AsyncConnection[Any]:
        """The session, for COPY and for reads; after `begin`, with nothing queued.

        Raises:
            ReplicatorError: INTERNAL, when something is queued.

        """
        if not self._begun or self._wire.queue:
            raise ReplicatorError("the transaction has statements that were not sent yet", kind=ErrorKind.INTERNAL)
        return self._wire.connection

    # -- what the port says --------------------------------------------------------------------------------------------

    async def lock(self, stripes: Collection[int]) -> None:
        """Take the gate shared, then these stripes, in ascending order; each lock lasts as long as the transaction."""
        space = self._session.lock_space
        commands = [Command(state_sql.GATE_SHARED, [space], doing="taking the gate shared")]
        if stripes:
            wanted = b"{%s}" % b",".join(b"%d" % (1 + stripe) for stripe in sorted(set(stripes)))
            commands.append(Command(state_sql.STRIPES, [space, wanted], doing="locking aggregates"))
        await self._run(*commands)

    async def lock_all(self) -> None:
        """Take the gate alone."""
        await self._run(Command(state_sql.GATE_ALONE, [self._session.lock_space], doing="taking the gate alone"))

    async def translate(self, keys: KeyMapping, wanted: Collection[Key], *, create: bool) -> dict[Key, Key]:
        """Source keys to target keys; see `key_map`."""
        if not wanted:
            return {}
        await self.begin()
        return await self._keys.translate(keys, wanted, create=create)

    async def source_keys(self, keys: KeyMapping, wanted: Sequence[Key]) -> dict[Key, Key]:
        """Target keys to source keys, by the target's map; those that it doesn't have are left out."""
        await self.begin()
        return await key_map.source_keys(self._wire, keys, wanted)

    async def write(self, write: Write) -> WriteResult:
        """Execute one write."""
        return await self._writer.write(write, self._run, self._copy)

    async def check(self, table: Table) -> None:
        """Check a table's deferrable unique and exclusion constraints now."""
        names = [key.name for key in table.unique_keys if key.deferrable] + list(table.deferrable_exclusions)
        if names:
            await self._run(*checks(table, names))

    async def execute(self, text: bytes, *parameters: bytes | None, doing: str) -> Any:
        """Execute one of `state_sql`'s statements, with parameters in text format; returns its result."""
        (result,) = await self._run(Command(text, parameters, doing=doing))
        return result

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A subtransaction. SAVEPOINT and RELEASE travel with the next statement, ROLLBACK TO is awaited."""
        name = b"s%d" % self._depth
        begin = Command(b"SAVEPOINT " + name, doing="setting a savepoint")
        self._depth += 1
        self._pending.begin()
        if self._progress.job:
            await self._run(begin)  # a job copies on the connection itself
        else:
            self._wire.queue.append(begin)
        try:
            yield
        except BaseException:
            self._pending.rolled_back()
            await self._back_to(begin, name)
            raise
        else:
            self._pending.released()
            self._release(begin, name)
        finally:
            self._depth -= 1

    async def _back_to(self, begin: Command, name: bytes) -> None:
        queue = self._wire.queue
        if begin in queue:  # it was never sent, nor what followed
            del queue[queue.index(begin) :]
            return
        queue.clear()
        if self._wire.broken:
            return
        doing = "rolling back to a savepoint"
        try:
            await self._wire.run(
                Command(b"ROLLBACK TO SAVEPOINT " + name, doing=doing),
                Command(b"RELEASE SAVEPOINT " + name, doing=doing),
            )
        except ReplicatorError:
            # The savepoint was not reached: what came before it failed, and the transaction is lost with it.
            queue.clear()

    def _release(self, begin: Command, name: bytes) -> None:
        queue = self._wire.queue
        if begin in queue:
            queue.remove(begin)
        else:
            queue.append(Command(b"RELEASE SAVEPOINT " + name, doing="releasing a savepoint"))

    async def park(self, letters: Sequence[DeadLetter]) -> None:
        """Store dead letters."""
        connector, feed, _ = self._session.holder.parameters
        commands = [
            Command(state_sql.PARK, [connector, feed, *_letter(letter)], doing="storing a dead letter")
            for letter in letters
        ]
        if commands:
            await self._run(*commands)

    async def unpark(self, ids: Collection[int]) -> None:
        """Remove dead letters that were applied."""
        await self._letters(state_sql.UNPARK, ids, doing="removing dead letters")

    async def discard(self, ids: Collection[int]) -> None:
        """Mark dead letters as discarded."""
        await self._letters(state_sql.DISCARD, ids, doing="discarding dead letters")

    async def _letters(self, text: bytes, ids: Collection[int], *, doing: str) -> None:
        if ids:
            connector, feed, _ = self._session.holder.parameters
            wanted = b"{%s}" % b",".join(b"%d" % one for one in sorted(ids))
            await self._run(Command(text, [connector, feed, wanted], doing=doing))

    async def void(self, mappings: Collection[str]) -> None:
        """Mark all dead letters of these mappings as discarded, those of this transaction too."""
        connector, feed, _ = self._session.holder.parameters
        names = array_literal(tuple(name.encode() for name in sorted(mappings)))
        await self._run(Command(state_sql.VOID, [connector, feed, names], doing="discarding dead letters"))

    async def checkpoint(self, position: str, commit_time: float | None, *, durable: bool = True) -> None:
        """Move the checkpoint, together with COMMIT; SUPERSEDED or REASSIGNED is then raised there."""
        self._progress.checkpoint(position, commit_time)
        self._durable = durable

    async def ping(self) -> None:
        """Keep the open session alive; nothing to do while it is busy, or before it has begun."""
        if self._begun and not self._wire.busy and not self._wire.broken:
            await self._run(_PING)


def array_literal(key: Key) -> bytes:
    """A key as text[] in text format."""
    quoted = (b'"' + part.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"' for part in key)
    return b"{" + b",".join(quoted) + b"}"


def _letter(letter: DeadLetter) -> list[bytes | None]:
    texts = (letter.table.schema, letter.table.name, letter.op, letter.position, letter.kind, letter.message)
    rows = (None if row is None else json.dumps(dict(row)).encode() for row in (letter.before, letter.after))
    return [letter.mapping.encode(), array_literal(letter.key), *(text.encode() for text in texts), *rows]
