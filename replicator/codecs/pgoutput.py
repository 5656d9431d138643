"""Decoder of pgoutput, PostgreSQL's own logical stream: protocol version 1, text format, servers 13 to 18. Pure.

Layouts: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html; integers are big-endian,
strings end with a zero byte. What protocol 1 leaves out (streamed and prepared transactions, binary values) is refused.

This is the hottest code of a feed. `feed_rows` decodes runs of rows together, in C; what is decoded in Python checks
bounds by what Python checks anyway (an index or a struct beyond the end raises) and by one comparison at the end of the
row.
"""

from __future__ import annotations

import contextlib
import struct
from itertools import islice, takewhile
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NoReturn

from replicator.codecs.tuples import values_at_once
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import (
    UNCHANGED,
    Begin,
    ChangeEvent,
    Commit,
    LogicalMessage,
    Op,
    Origin,
    Relation,
    Transaction,
    Truncation,
    Value,
)
from replicator.runs import Rows, Run
from replicator.tables import TableName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from replicator.events import StreamItem, Values

EPOCH_SECONDS: Final = 946_684_800
"""PostgreSQL counts microseconds from 2000-01-01; this is that moment in Unix seconds."""

_IDENTITIES: Final = frozenset("dnfi")
_TYPES: Final = ("BEGIN", "COMMIT", "ORIGIN", "RELATION", "YTYPE", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "MESSAGE")
_NAMES: Final = {ord(name[0]): name.removeprefix("Y") for name in _TYPES}
_NULL, _UNCHANGED, _TEXT = ord("n"), ord("u"), ord("t")
_NEW, _KEY, _OLD = ord("N"), ord("K"), ord("O")

_uint32 = struct.Struct(">I").unpack_from
_begin = struct.Struct(">xQqI").unpack_from
_commit = struct.Struct(">xBQQq").unpack_from
_row_head = struct.Struct(">xIBH").unpack_from
_tuple_head = struct.Struct(">BH").unpack_from
_relation_tail = struct.Struct(">cH").unpack_from
_column_tail = struct.Struct(">Ii").unpack_from
_truncate = struct.Struct(">xIB").unpack_from
_message = struct.Struct(">xBQ").unpack_from

_new_tuple = tuple.__new__  # skips the generated __new__ of a NamedTuple: 0.1 µs a row
_INSERT, _UPDATE, _DELETE = Op.INSERT, Op.UPDATE, Op.DELETE
_OPS: Final = {ord("I"): _INSERT, ord("U"): _UPDATE, ord("D"): _DELETE}
_RUNS: Final = frozenset({b"IN", b"UN", b"DK", b"DO"})  # kinds of message and tuple that come in runs
_RUN_ROWS_MIN: Final = 4  # fewer are cheaper as events


class _MalformedError(Exception):
    """What is wrong, and where; becomes a ReplicatorError in `feed`."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.what = what
        self.offset = offset


class PgoutputDecoder:
    """Turns the messages of one replication session, in order, into events.

    Keeps the relations that the server has announced, and the transaction that is open. Use one decoder for a session,
    or call `reset` between sessions: relations that are announced again unchanged stay the same objects.
    """

    def __init__(self) -> None:
        self._relations: dict[int, tuple[Relation, int]] = {}
        self._announced: dict[int, bytes] = {}
        self._transaction: Transaction | None = None
        self._ordinal = 0
        self._decoders: dict[int, Callable[[bytes, int], StreamItem | None]] = {
            ord("I"): self._insert,
            ord("U"): self._update,
            ord("D"): self._delete,
            ord("B"): self._begin,
            ord("C"): self._commit,
            ord("O"): self._origin,
            ord("R"): self._relation,
            ord("Y"): self._type,
            ord("T"): self._truncate,
            ord("M"): self._message,
        }

    def reset(self) -> None:
        """Forget the open transaction: a new session begins between transactions."""
        self._transaction = None
        self._ordinal = 0

    def feed(self, data: bytes, at: int = 0) -> StreamItem | None:
        """Decode one message.

        Args:
            data: a buffer that ends with the message.
            at: where the message begins in it (saves a copy behind a frame's header).

        Returns:
            What it says; None for what only prepares the decoder (RELATION, TYPE), and for an empty message:
            PostgreSQL 13 sends one in place of ORIGIN when the origin was made too late for the transaction to know
            its name, or was dropped since.

        Raises:
            ReplicatorError: DECODE. The decoder must not be fed further.

        """
        try:
            return self._decoders[data[at]](data, at)
        except _MalformedError as error:
            self._refuse(data, at, error.what, error.offset, error)
        except (IndexError, struct.error) as error:
            if at == len(data):
                return None
            self._refuse(data, at, "it ends too early", len(data), error)
        except UnicodeDecodeError as error:
            self._refuse(data, at, "a name isn't UTF-8", at, error)
        except KeyError as error:
            self._refuse(data, at, "its type is unknown to protocol version 1", at, error)

    def feed_rows(self, messages: Sequence[bytes], first: int, at: int = 0) -> Sequence[ChangeEvent]:
        """Decode consecutive messages of one kind, about rows of one relation, with one tuple each.

        Several times as fast as `feed`, which decodes whatever isn't such a run, and says what is wrong with what is
        malformed.

        Args:
            messages: buffers that end with a message each.
            first: where the run begins in them.
            at: where a message begins in each buffer.

        Returns:
            The events of messages[first], messages[first + 1], ...; none when no run begins there.

        """
        head = messages[first][at : at + 8]  # kind, relation, kind of the tuple, number of its values
        transaction, known = self._transaction, self._relations.get(int.from_bytes(head[1:5]))
        if transaction is None or known is None or head[::5] not in _RUNS or int.from_bytes(head[6:]) != known[1]:
            return ()
        relation, width = known
        heads = map(itemgetter(slice(at, at + 8)), islice(messages, first, None))
        last = first + len(list(takewhile(head.__eq__, heads)))
        tuples = list(map(itemgetter(slice(at + 8, None)), islice(messages, first, last)))
        found = values_at_once(tuples, width) if width else None
        values, unchanged = self._one_by_one(tuples, width) if found is None else found
        if not values:
            return ()
        rows = Rows(values, width)
        size = sum(map(len, tuples))
        run = Run(_OPS[head[0]], relation, rows, transaction, first=self._ordinal + 1, size=size)
        self._ordinal += len(rows)
        return list(run) if unchanged or len(rows) < _RUN_ROWS_MIN else run

    def _one_by_one(self, tuples: Iterable[bytes], width: int) -> tuple[list[Value], bool]:
        """The values of the rows up to a malformed one, and that some may be UNCHANGED."""
        found: list[Value] = []
        with contextlib.suppress(IndexError, struct.error, _MalformedError):
            for data in tuples:
                values, end = self._values(data, 0, width)
                if end != len(data):
                    break
                found.extend(values)
        return found, True

    @staticmethod
    def _refuse(data: bytes, at: int, what: str, offset: int, cause: Exception) -> NoReturn:
        kind = data[at] if at < len(data) else None
        name = _NAMES.get(kind) if kind is not None else None
        label = name or ("message" if kind is None else f"message of type {bytes([kind])!r}")
        raise ReplicatorError(
            f"pgoutput {label} can't be decoded: {what} (at byte {offset - at} of {max(len(data) - at, 0)})",
            kind=ErrorKind.DECODE,
            hint="Nothing after this message was applied. Report it with the server's version; "
            "the slot keeps the change until it can be read",
        ) from cause

    # --- rows ---------------------------------------------------------------------------------------------------

    def _insert(self, data: bytes, at: int) -> ChangeEvent:
        relation_id, kind, count = _row_head(data, at)
        relation, width = self._relations.get(relation_id) or self._unannounced(relation_id, at)
        if kind != _NEW or count != width:
            self._unexpected_tuple(kind, b"N", count, width, at + 5)
        values, end = self._values(data, at + 8, count)
        if end != len(data):
            self._overlong(end, len(data))
        transaction = self._transaction or self._outside(at)
        self._ordinal = ordinal = self._ordinal + 1
        return _new_tuple(ChangeEvent, (_INSERT, relation, None, values, transaction, ordinal))

    def _update(self, data: bytes, at: int) -> ChangeEvent:
        relation_id, kind, count = _row_head(data, at)
        relation, width = self._relations.get(relation_id) or self._unannounced(relation_id, at)
        before = None
        position = at + 8
        if kind in (_KEY, _OLD):
            if count != width:
                self._unexpected_tuple(kind, b"KON", count, width, at + 5)
            before, position = self._values(data, position, count)
            kind, count = _tuple_head(data, position)
            position += 3
        if kind != _NEW or count != width:
            self._unexpected_tuple(kind, b"KON" if before is None else b"N", count, width, position - 3)
        after, end = self._values(data, position, count)
        if end != len(data):
            self._overlong(end, len(data))
        transaction = self._transaction or self._outside(at)
        self._ordinal = ordinal = self._ordinal + 1
        return _new_tuple(ChangeEvent, (_UPDATE, relation, before, after, transaction, ordinal))

    def _delete(self, data: bytes, at: int) -> ChangeEvent:
        relation_id, kind, count = _row_head(data, at)
        relation, width = self._relations.get(relation_id) or self._unannounced(relation_id, at)
        if (kind not in (_KEY, _OLD)) or count != width:
            self._unexpected_tuple(kind, b"KO", count, width, at + 5)
        before, end = self._values(data, at + 8, count)
        if end != len(data):
            self._overlong(end, len(data))
        transaction = self._transaction or self._outside(at)
        self._ordinal = ordinal = self._ordinal + 1
        return _new_tuple(ChangeEvent, (_DELETE, relation, before, None, transaction, ordinal))

    @staticmethod
    def _values(data: bytes, position: int, count: int) -> tuple[Values, int]:
        """Read `count` values from `position`; returns them and where they end (beyond the data, if it is cut off)."""
        values: list[Value] = []
        add = values.append
        for _ in range(count):
            kind = data[position]
            if kind == _TEXT:
                start = position + 5
                position = start + _uint32(data, position + 1)[0]
                add(data[start:position])
            elif kind == _NULL:
                add(None)
                position += 1
            elif kind == _UNCHANGED:
                add(UNCHANGED)
                position += 1
            else:
                raise _MalformedError(f"a value of kind {bytes([kind])!r} isn't text, NULL or unchanged", position)
        return tuple(values), position

    def _truncate(self, data: bytes, at: int) -> Truncation:
        count, options = _truncate(data, at)
        if len(data) - at != 6 + 4 * count:
            raise _MalformedError(f"it names {count} relations, which is not what its length says", at + 1)
        transaction = self._transaction or self._outside(at)
        events = []
        for offset in range(at + 6, len(data), 4):
            relation_id: int = _uint32(data, offset)[0]
            relation, _ = self._relations.get(relation_id) or self._unannounced(relation_id, offset - 1)
            self._ordinal += 1
            events.append(ChangeEvent(Op.TRUNCATE, relation, None, None, transaction, self._ordinal))
        return Truncation(tuple(events), cascade=bool(options & 1), restart_identity=bool(options & 2))

    # --- boundaries and shapes ------------------------------------------------------------------------------------

    def _begin(self, data: bytes, at: int) -> Begin:
        commit_lsn, microseconds, xid = _begin(data, at)
        self._ends(data, at + 21)
        if self._transaction is not None:
            raise _MalformedError("the transaction before it has not ended", at)
        self._transaction = Transaction(xid, commit_lsn, EPOCH_SECONDS + microseconds / 1e6)
        self._ordinal = 0
        return Begin(self._transaction)

    def _commit(self, data: bytes, at: int) -> Commit:
        _, commit_lsn, end_lsn, _ = _commit(data, at)
        self._ends(data, at + 26)
        transaction = self._transaction or self._outside(at)
        if commit_lsn != transaction.commit_lsn or end_lsn <= commit_lsn:
            raise _MalformedError("it doesn't end the transaction that is open", at + 2)
        self._transaction = None
        return Commit(transaction, end_lsn)

    def _origin(self, data: bytes, at: int) -> Origin:
        name, end = self._string(data, at + 9)
        self._ends(data, end)
        if self._transaction is None:
            self._outside(at)
        return Origin(name)

    def _relation(self, data: bytes, at: int) -> None:
        relation_id: int = _uint32(data, at + 1)[0]
        message = data[at:]
        if self._announced.get(relation_id) == message:
            return
        schema, position = self._string(data, at + 5)
        name, position = self._string(data, position)
        identity, count = _relation_tail(data, position)
        if identity.decode("latin-1") not in _IDENTITIES:
            raise _MalformedError(f"replica identity {identity!r} is unknown", position)
        position += 3
        columns, oids, typmods, key = [], [], [], []
        for _ in range(count):
            flags = data[position]
            column, position = self._string(data, position + 1)
            oid, typmod = _column_tail(data, position)
            position += 8
            columns.append(column)
            oids.append(oid)
            typmods.append(typmod)
            if flags & 1:
                key.append(column)
        self._ends(data, position)
        relation = Relation(
            TableName(schema or "pg_catalog", name),
            tuple(columns),
            type_oids=tuple(oids),
            key_columns=tuple(key),
            replica_identity=identity.decode(),
            typmods=tuple(typmods),
        )
        self._relations[relation_id] = relation, count
        self._announced[relation_id] = message

    def _type(self, data: bytes, at: int) -> None:
        """Names a type of a user; the catalog knows it better, so it is only checked."""
        _uint32(data, at + 1)
        _, position = self._string(data, at + 5)
        _, position = self._string(data, position)
        self._ends(data, position)

    def _message(self, data: bytes, at: int) -> LogicalMessage:
        flags, lsn = _message(data, at)
        prefix, position = self._string(data, at + 10)
        start = position + 4
        size: int = _uint32(data, position)[0]
        self._ends(data, start + size)
        if flags & 1 and self._transaction is None:
            self._outside(at)
        return LogicalMessage(prefix, data[start:], transactional=bool(flags & 1), lsn=lsn)

    # --- what can be wrong ------------------------------------------------------------------------------------------

    @staticmethod
    def _string(data: bytes, position: int) -> tuple[str, int]:
        end = data.find(0, position)
        if end < 0:
            raise _MalformedError("a name has no end", len(data))
        return data[position:end].decode(), end + 1

    @staticmethod
    def _ends(data: bytes, end: int) -> None:
        if end != len(data):
            PgoutputDecoder._overlong(end, len(data))

    @staticmethod
    def _overlong(end: int, length: int) -> NoReturn:
        if end > length:
            raise _MalformedError("it ends too early", length)
        raise _MalformedError(f"{length - end} bytes follow its end", end)

    @staticmethod
    def _unannounced(relation_id: int, at: int) -> NoReturn:
        raise _MalformedError(f"relation {relation_id} was not announced by a RELATION message", at + 1)

    @staticmethod
    def _outside(at: int) -> NoReturn:
        raise _MalformedError("it stands outside a transaction", at)

    @staticmethod
    def _unexpected_tuple(kind: int, wanted: bytes, count: int, width: int, offset: int) -> NoReturn:
        if kind not in wanted:
            raise _MalformedError(f"a tuple of kind {bytes([kind])!r} stands where one of {wanted!r} belongs", offset)
        raise _MalformedError(f"a tuple of {count} values belongs to a relation of {width} columns", offset)
