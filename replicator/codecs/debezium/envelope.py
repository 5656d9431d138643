"""Debezium's envelope, whatever it is written in: rows of a table by its fields, and what `source` and `transaction`
say. Shared by JSON and Avro.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from replicator.codecs.debezium.at_once import column_converter
from replicator.codecs.debezium.conversion import CONVERSION_ERRORS, Converter
from replicator.codecs.debezium.fields import Field, MalformedError
from replicator.codecs.debezium.names import columns_of_fields
from replicator.codecs.debezium.values import converter
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Op, Relation, Value, Values
from replicator.records import RowChange
from replicator.tables import TableName

if TYPE_CHECKING:
    from replicator.codecs.debezium.facts import Facts
    from replicator.codecs.debezium.modes import Modes
    from replicator.records import Record
    from replicator.tables import Catalog, Column, Table

OPS: Final = {op.value: op for op in Op}


class Shape:
    """Rows of one table with one set of fields.

    Args:
        table: the catalog's.
        fields: each column's name in the record, and how it is written; None where nothing says how.
        modes: Debezium's settings.

    Raises:
        ReplicatorError: DECODE, when a column's values can't be brought back whole; SCHEMA, when names are ambiguous.

    Attributes:
        relation: what rows are called: a column that the catalog doesn't have comes along, so that the engine sees it.
        defaulted: a column whose NULL a converter may replace by its default; None without.

    """

    def __init__(self, table: Table, fields: Iterable[tuple[str, Field | None]], modes: Modes) -> None:
        named = tuple(fields)
        held = columns_of_fields(((name, field or Field("string")) for name, field in named), table)
        columns = [table.by_name.get(held[name]) for name, _ in named]
        converters = [
            _converter(table, field, column, modes) for (_, field), column in zip(named, columns, strict=True)
        ]
        self._converters = tuple(converters)
        self._at_once = tuple(map(column_converter, converters))
        self.relation = Relation(
            table.name,
            tuple(held[name] for name, _ in named),
            type_oids=tuple(0 if column is None else column.type_oid for column in columns),
            key_columns=table.identity_columns,
            replica_identity=table.replica_identity,
        )
        self.defaulted = next(
            (  # our own capture writes no defaults, and says "false" where it means it
                column.name
                for (_, field), column in zip(named, columns, strict=True)
                if column is not None
                and column.nullable
                and field is not None
                and field.has_default
                and not modes.exact
            ),
            None,
        )
        keys = set(table.identity_columns)
        self._whole = table.replica_identity == "f"
        # Only these are told of an old row: what stands in its other columns is no NULL of theirs.
        self._old = tuple(
            one if name in keys else None for name, one in zip(self.relation.columns, converters, strict=True)
        )
        self._not_null = tuple(
            at
            for at, column in enumerate(columns)
            if column is not None and column.name in keys and not column.nullable
        )

    def row(self, values: Sequence[object], exact: Mapping[str, str | None] | None = None) -> Values:
        """A new row, or an old one under FULL.

        Args:
            values: the fields' values in order.
            exact: texts of values, by column, that are told besides; None for one that is unchanged.

        Raises:
            MalformedError: names the column.

        """
        if exact:
            return self._exact(self._converters, values, exact)
        try:
            return tuple(
                [None if value is None else convert(value) for convert, value in zip(self._converters, values)]  # noqa: B905 -- 0.2 µs; as many as there are names
            )
        except CONVERSION_ERRORS:
            self._blame(self._converters, values)

    def rows(self, rows: Sequence[Sequence[object]]) -> list[Values]:
        """New rows, at once.

        Args:
            rows: of each the fields' values in order.

        Raises:
            any of CONVERSION_ERRORS: `row` says of what.

        """
        if not self._converters:
            return [()] * len(rows)
        columns = [convert(column) for convert, column in zip(self._at_once, zip(*rows, strict=True), strict=True)]
        return list(zip(*columns, strict=True))

    def values(self, rows: Sequence[object], fields: Sequence[Callable[[Any], Any]]) -> tuple[list[Value], bool]:
        """The values of new rows, row after row, and whether none of them is UNCHANGED.

        Args:
            rows: objects.
            fields: what says each field of one, in order; at least one.

        Raises:
            any of CONVERSION_ERRORS: `row` says of what.

        """
        width = len(fields)
        values: list[Value] = [None] * (len(rows) * width)
        for at, (field, convert) in enumerate(zip(fields, self._at_once, strict=True)):
            values[at::width] = convert(list(map(field, rows)))
        return values, UNCHANGED not in values

    def _exact(
        self, converters: Sequence[Converter | None], values: Sequence[object], exact: Mapping[str, str | None]
    ) -> Values:
        known = [None if name in exact else value for name, value in zip(self.relation.columns, values, strict=True)]
        try:
            row = [
                None if value is None or convert is None else convert(value)
                for convert, value in zip(converters, known, strict=True)
            ]
        except CONVERSION_ERRORS:
            self._blame(converters, known)
        for name, text in exact.items():
            at = self.relation.positions.get(name)
            if at is None:
                raise MalformedError("`exact` tells a column that the row doesn't have")
            if converters[at] is not None:
                row[at] = UNCHANGED if text is None else text.encode()
        return tuple(row)

    def old_row(self, values: Sequence[object], exact: Mapping[str, str | None] | None = None) -> Values:
        """A `before`: whole under FULL, else its identity's columns.

        Args:
            values: the fields' values in order.
            exact: texts of values, by column, that are told besides; None for one that is unchanged.

        Raises:
            MalformedError: names the column.

        """
        if self._whole:
            return self.row(values, exact)
        old = self._exact(self._old, values, exact or {})
        for at in self._not_null:
            if old[at] is None:
                raise MalformedError(f"column {self.relation.columns[at]} of its key has no old value")
        return old

    def _blame(self, converters: Sequence[Converter | None], values: Sequence[object]) -> NoReturn:
        for name, convert, value in zip(self.relation.columns, converters, values, strict=True):
            try:
                if convert is not None and value is not None:
                    convert(value)
            except MalformedError as error:
                raise MalformedError(f"column {name}: {error}") from None
            except CONVERSION_ERRORS as error:
                raise MalformedError(f"column {name}: its value is of another form ({type(error).__name__})") from None
        raise MalformedError("it has other columns than its schema")


def _converter(table: Table, field: Field | None, column: Column | None, modes: Modes) -> Converter:
    if column is None:
        return _unknown
    if (table.name, column.name) in modes.unread:
        return _unread
    if field is None:
        raise ReplicatorError(
            f"Debezium's records have column {column.name}, whose type it only writes where it is told to",
            kind=ErrorKind.DECODE,
            table=str(table.name),
            column=column.name,
            hint="Give include.unknown.datatypes in stream.debezium as Debezium's connector has it",
        )
    try:
        return converter(field, column, modes)
    except ReplicatorError as error:
        error.table = str(table.name)
        raise


def _unread(_: object) -> Value:
    """Of a column that nobody carries: what Debezium makes of it is no matter."""
    return None


def _unknown(_: object) -> Value:
    """Of a column that the catalog doesn't have: nobody can use its values before the catalog is read again."""
    return UNCHANGED


Exact = Mapping[str, Mapping[str, str | None] | None]
"""What our capture tells besides `before` and `after`, under their names: texts of values that their form loses,
and None for those that are unchanged."""


def row_change(
    op: str,
    shape: Shape,
    before: Callable[[], Sequence[object] | None],
    after: Sequence[object] | None,
    known: Facts,
    *,
    exact: Exact | None = None,
) -> RowChange:
    """A change of one row.

    Args:
        op: Debezium's letter: c, u, d or r.
        shape: the row's.
        before: reads the old row's values, where the change has a use for them; None without.
        after: the new row's values, None without.
        known: the record's facts.
        exact: the record's `exact`.

    Raises:
        MalformedError: another op, a row lacks, a value is malformed.

    """
    meant = OPS.get(op)
    if meant is None or meant is Op.TRUNCATE:
        raise MalformedError(f"its op is {op[:20]!r}")
    old: Values | None = None
    if meant is Op.DELETE or meant is Op.UPDATE:
        values = before()
        if values is not None:
            old = shape.old_row(values, exact.get("before") if exact else None)
    if meant is Op.DELETE:
        if old is None:
            raise MalformedError("a delete has no `before`: the table has no replica identity")
        return RowChange(meant, shape.relation, old, None, *known)
    if after is None:
        raise MalformedError("it has no `after`")
    return RowChange(meant, shape.relation, old, shape.row(after, exact.get("after") if exact else None), *known)


def check_nulls(shape: Shape, snapshot: object) -> None:
    """Refuse what a converter wrote that puts defaults in the place of NULL, whatever it was told not to.

    Each record shows it: `source.snapshot` has the default "false", and Debezium sets it only in rows of a snapshot
    (SnapshotRecord.toSource), so that in a change it is NULL, or what the converter made of that.

    Raises:
        MalformedError: names the column.

    """
    if snapshot == "false" and shape.defaulted is not None:
        raise MalformedError(
            f"the converter that wrote it puts defaults in the place of NULL (source.snapshot is one), also in column "
            f"{shape.defaulted}: Connect's JsonConverter knows replace.null.with.default since 3.5, Confluent's "
            "AvroConverter ignore.default.for.nullables since 7.3. Upgrade it, set that, and copy the table again"
        )


class Tables:
    """Which table a record belongs to.

    Args:
        catalog: the old database's.
        by_topic: tables of topics that have one.

    """

    def __init__(self, catalog: Catalog, by_topic: Mapping[str, TableName]) -> None:
        self._catalog = catalog
        self._by_topic = by_topic
        self._found: dict[tuple[str, str, str], Table] = {}

    def find(self, topic: str, schema: str, name: str) -> Table | None:
        """The table of a record whose source names `schema` and `name`; None for one that nobody has asked for.

        Raises:
            MalformedError: the topic was said to be another table's.
            ReplicatorError: SCHEMA when the topic's table isn't in the catalog.

        """
        found = self._found.get((topic, schema, name))
        if found is None:
            found = self._look_up(topic, TableName(schema, name))
            if found is not None:
                self._found[topic, schema, name] = found
        return found

    def _look_up(self, topic: str, named: TableName) -> Table | None:
        expected = self._by_topic.get(topic)
        if expected is None:
            return self._catalog.tables.get(named)
        table = self._catalog.tables.get(expected)
        if table is None:
            raise ReplicatorError(
                f"topic {topic} is of {expected}, which the old database doesn't have",
                kind=ErrorKind.SCHEMA,
                table=str(expected),
                hint="Correct stream.topics, or the connector's tables",
            )
        if named not in {expected, *table.leaves}:
            raise MalformedError(f"it is of {named}, and stream.topics says that the topic is of {expected}")
        return table

    def of_topic(self, topic: str) -> Table | None:
        """The table of a topic that has one."""
        expected = self._by_topic.get(topic)
        return None if expected is None else self._catalog.tables.get(expected)


def refused(record: Record, what: str, *, hint: str | None = None) -> ReplicatorError:
    """A record that can't be decoded: for whoever reads the message, its place, and what is wrong."""
    return ReplicatorError(
        f"record {record} can't be decoded: {what}",
        kind=ErrorKind.DECODE,
        hint=hint
        or "Nothing was skipped: the feed stands before it. Does anybody else write to that topic than Debezium, or "
        "`replicator capture`? Mend who wrote it, and make the topic anew, or begin behind what it wrote before",
    )
