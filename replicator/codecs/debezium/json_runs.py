"""Changes of one topic's JSON records, many at once: in half the time of one after the other.

Records of one table with one set of fields are read by one struct, and their values are converted column by column.
What doesn't fit (another schema, a tombstone, a truncation, values that are told besides, anything malformed) is left
to the decoder, which looks at each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, compress, groupby, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from replicator.codecs.debezium.conversion import CONVERSION_ERRORS
from replicator.codecs.debezium.envelope import OPS
from replicator.codecs.debezium.facts import UINT32, sequence_of
from replicator.codecs.debezium.fields import MalformedError
from replicator.events import Op
from replicator.records import RowChange, RowChanges
from replicator.runs import Origins, Rows

if TYPE_CHECKING:
    from replicator.codecs.debezium.json_rows import RowReader
    from replicator.events import Values
    from replicator.records import Record

_UNREAD: Final = (msgspec.MsgspecError, RecursionError, *CONVERSION_ERRORS)
_FEW: Final = 8
"""With fewer of one kind behind each other, as a rule, each is cheaper alone."""
_new_change = RowChange._make
_astuple = msgspec.structs.astuple
_before = attrgetter("before")


class _Transaction(msgspec.Struct, gc=False):
    id: str
    total_order: int
    data_collection_order: int | None = None


class RunReader:
    """Reads records of one table and one set of fields.

    Args:
        schema, table: as records name it.
        reader: of its rows.
        head: how a record begins, up to its payload; b'' for records without schema.

    """

    def __init__(self, schema: str, table: str, reader: RowReader, head: bytes) -> None:
        self._key = schema, table, reader, head
        self._head = head
        self._reader = reader
        self._fields = [attrgetter(name) for name in reader.row_type.__struct_fields__]
        self._picky = reader.shape.defaulted is not None  # then `source.snapshot` has to be looked at
        lean: list[tuple[str, Any, Any]] = [
            ("txId", int | None, None),
            ("lsn", int | None, None),
            ("ts_us", int | None, None),
            ("sequence", str | None, None),
        ]
        full = [*lean, ("ts_ms", int | None, None), ("snapshot", str | None, None)]
        self._decode = self._decoder(schema, table, full, [("transaction", _Transaction | None, None)])
        self._decode_rows = self._decoder(schema, table, full if self._picky else lean, [])
        self._full = self._picky

    def _decoder(
        self, schema: str, table: str, told: list[tuple[str, Any, Any]], beside: list[tuple[str, Any, Any]]
    ) -> Callable[[bytes | None], Any]:
        """Of an envelope, with these fields of `source`, and these beside it: what isn't asked for costs less."""
        known = [("schema", Literal[schema]), ("table", Literal[table])]
        source = msgspec.defstruct("Source", [*known, *told], gc=False)
        envelope = msgspec.defstruct(
            "Envelope",
            [
                ("op", Literal["c", "r", "u", "d"]),
                ("source", source),
                ("before", self._reader.old_type | None, None),
                ("after", self._reader.row_type | None, None),
                ("exact", dict[str, msgspec.Raw] | None, None),
                *beside,
            ],
            gc=False,
        )
        return msgspec.json.Decoder(envelope).decode  # type: ignore[return-value]  # None is refused, and that is caught

    def reads(self, schema: str, table: str, reader: RowReader, head: bytes) -> bool:
        """Whether it is made of these."""
        return self._key == (schema, table, reader, head)

    def read(self, records: Sequence[Record]) -> list[RowChange | None]:
        """What each record says; None for one that has to be looked at alone."""
        payloads = self._payloads(records)
        try:
            envelopes = list(map(self._decode, payloads))
        except _UNREAD:
            envelopes = [self._one(payload) for payload in payloads]
        return self._each(envelopes, blocks=True)

    def read_rows(self, records: Sequence[Record]) -> list[RowChange | RowChanges | None]:
        """Likewise, changes of one kind that follow each other as one, where that is worth it."""
        payloads = self._payloads(records)
        try:
            envelopes = list(map(self._decode_rows, payloads))
        except _UNREAD:
            envelopes = [self._one(payload) for payload in payloads]
        if not self._full and None in [one.source.ts_us for one in envelopes if one is not None]:
            self._decode_rows, self._full = self._decode, True  # Debezium before 2.6
            return self.read_rows(records)
        found: list[RowChange | RowChanges | None] = []
        first = last = 0
        for kind, group in groupby(map(_kind, envelopes)):
            count = len(list(group))
            last += count
            if kind is None or count < _FEW:
                continue  # goes with what is around it
            found += self._each(envelopes[first : last - count], blocks=False)
            first = last
            changes = self._rows(OPS[kind], envelopes[last - count : last])
            found += [None] * count if changes is None else [changes]
        return [*found, *self._each(envelopes[first:], blocks=False)]

    def _each(self, envelopes: Sequence[Any], *, blocks: bool) -> list[RowChange | None]:
        """What each says, and the blocks of transactions where they were read; None for one that has to be looked at
        alone.
        """
        fits = [one is not None and one.exact is None and (one.after is None) is (one.op == "d") for one in envelopes]
        try:
            if all(fits):
                return self._changes(envelopes, blocks=blocks) if envelopes else []
            plain = iter(self._changes(list(compress(envelopes, fits)), blocks=blocks) if any(fits) else [])
        except _UNREAD:
            return [None] * len(envelopes)
        return [next(plain) if fit else None for fit in fits]

    def _rows(self, op: Op, envelopes: Sequence[Any]) -> RowChanges | None:
        shape, width = self._reader.shape, len(self._fields)
        sources = [one.source for one in envelopes]
        if not width or (self._picky and "false" in [one.snapshot for one in sources]):
            return None
        whole = True
        try:
            if op is Op.DELETE:
                olds = [shape.old_row(self._reader.old_values(one.before)) for one in envelopes]
                values = list(chain.from_iterable(olds))
            else:
                values, whole = shape.values([one.after for one in envelopes], self._fields)
            sequences = _sequences([one.sequence for one in sources])
        except _UNREAD:
            return None
        return RowChanges(op, shape.relation, Rows(values, width), whole, _origins(sources), sequences)

    def _payloads(self, records: Sequence[Record]) -> list[bytes | None]:
        head, cut = self._head, len(self._head)
        values = [record.value for record in records]
        if not head:
            return values
        return [
            value[cut:-1] if value is not None and value.startswith(head) and value.endswith(b"}") else None
            for value in values
        ]

    def _one(self, payload: bytes | None) -> Any:
        try:
            return None if payload is None else self._decode(payload)
        except _UNREAD:
            return None

    def _changes(self, envelopes: Sequence[Any], *, blocks: bool) -> list[RowChange | None]:
        reader = self._reader
        shape = reader.shape
        ops = [one.op for one in envelopes]
        afters: Iterable[Values | None]
        befores: Iterable[Values | None] = repeat(None)
        news = [_astuple(one.after) for one in envelopes if one.after is not None]
        afters = shape.rows(news) if news else []
        if len(news) < len(envelopes):
            made = iter(afters)
            afters = [None if one.after is None else next(made) for one in envelopes]
        if any(map(_before, envelopes)):
            befores = [
                None if one.before is None or one.op in {"c", "r"} else shape.old_row(reader.old_values(one.before))
                for one in envelopes
            ]
        sources = [one.source for one in envelopes]
        if self._picky and "false" in [one.snapshot for one in sources]:
            raise MalformedError("defaults may stand in the place of NULL")
        told = [one.transaction for one in envelopes] if blocks else []
        nothing = repeat(None)
        fields = zip(
            [OPS[op] for op in ops],
            repeat(shape.relation),
            befores,
            afters,
            *_origins(sources),
            [None if one is None else one.id.partition(":")[0] for one in told] if any(told) else nothing,
            [None if one is None else one.total_order for one in told] if any(told) else nothing,
            _sequences([one.sequence for one in sources]),
            [None if one is None else one.data_collection_order for one in told] if any(told) else nothing,
            strict=False,
        )
        return list(map(_new_change, fields))


def _origins(sources: Sequence[Any]) -> Origins:
    return Origins(
        [(one.txId or 0) & UINT32 for one in sources],
        [one.lsn or 0 for one in sources],
        [(one.ts_ms or 0) / 1e3 if one.ts_us is None else one.ts_us / 1e6 for one in sources],
    )


def _kind(envelope: Any) -> str | None:
    """What many of at once can be read as; None for what has to be looked at alone."""
    if envelope is None or envelope.exact is not None:
        return None
    op: str = envelope.op
    if op == "d":
        return None if envelope.before is None or envelope.after is not None else op
    return None if envelope.after is None or (op == "u" and envelope.before is not None) else op


def _sequences(texts: Sequence[str | None]) -> list[tuple[int, int] | None]:
    """Of `source.sequence`, as `facts.sequence_of`."""
    try:
        pairs = _pairs("[" + ",".join(texts).replace('"', "") + "]")  # type: ignore[arg-type]  # None is caught
    except (TypeError, msgspec.MsgspecError):
        pairs = []
    if len(pairs) == len(texts):
        return pairs
    return [None if text is None else sequence_of(text) for text in texts]


_pairs = msgspec.json.Decoder(list[tuple[int, int] | None]).decode
