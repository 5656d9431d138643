"""Runs a user's function on one aggregate, and lets nothing pass that can't be written."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED
from replicator.mapping import NeedsFetch, Outcome, TargetRow
from replicator.rows import (
    Row,
    RowError,
    Shape,
    missing_column,
    new_aggregate,
    source_row,
    target_of,
    text_equal,
    value_oid,
    write_row,
)
from replicator.transforms.loading import user_place

if TYPE_CHECKING:
    from replicator.events import Key, Relation
    from replicator.mapping import Side, SourceAggregate, SourceRows
    from replicator.transforms.transform import Place

_HINT = "Nothing of this change was written. Correct the function, try it with `replicator test`, and start again"


class _SourceTable:
    """Makes rows of one source table: its columns' types, for each shape that the stream has shown."""

    def __init__(self, side: Side) -> None:
        self._table = side.table
        self._shapes: WeakKeyDictionary[Relation, tuple[tuple[str | None, ...], Shape]] = WeakKeyDictionary()

    def rows(self, source: SourceRows) -> tuple[Row, ...]:
        names, shape = self._shapes.get(source.relation) or self._shape(source.relation)
        made = []
        for values in source.rows:
            row = dict(zip(names, values, strict=True))
            row.pop(None, None)
            made.append(source_row(row, shape))  # type: ignore[arg-type]  # no None among its keys any more
        return tuple(made)

    def _shape(self, relation: Relation) -> tuple[tuple[str | None, ...], Shape]:
        """The catalog's types, but the stream's where a column was retyped or added since.

        Generated columns are left out: a stream doesn't carry them, a read would.
        """
        oids: dict[str, int] = {}
        names: list[str | None] = []
        sent = relation.type_oids or (0,) * len(relation.columns)
        for name, oid in zip(relation.columns, sent, strict=True):
            column = self._table.by_name.get(name)
            names.append(None if column is not None and column.generated else name)
            oids[name] = value_oid(column) if column is not None and oid in {0, column.type_oid} else oid
        made = (tuple(names), Shape(str(self._table.name), oids))
        self._shapes[relation] = made
        return made


class _TargetTable:
    """What rows of one target table may hold."""

    def __init__(self, side: Side) -> None:
        self.name = side.table.name
        self.key = side.key
        self.columns = side.table.by_name
        self.oids = {name: value_oid(side.table.by_name[name]) for name in side.table.writable}


class TransformFunction:
    """A user's function, as the engine calls it (see `replicator.mapping.AggregateFunction`)."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        place: Place,
        sources: tuple[Side, ...],
        targets: tuple[Side, ...],
        *,
        takes_aggregate: bool,
    ) -> None:
        self._function = function
        self._label = f"transform {place}"
        self._folder = Path(place.file).parent
        self._table = str(sources[0].table.name)
        self._takes_aggregate = takes_aggregate
        self._sources = [_SourceTable(side) for side in sources]
        self._source_names = [side.table.name for side in sources]
        self._source_key = sources[0].key
        self._key_oids = [value_oid(sources[0].table.by_name[name]) for name in sources[0].key]
        self._targets = [_TargetTable(side) for side in targets]
        self._positions = {target.name: at for at, target in enumerate(self._targets)}

    def __call__(self, aggregate: SourceAggregate) -> Outcome:
        """Run it.

        Raises:
            NeedsFetch: it read a column that is UNCHANGED.
            ReplicatorError: kind TRANSFORM, naming function, table and key.

        """
        key = aggregate.key
        rows = self._rows(self._argument(aggregate), key)
        outcome = Outcome(key, [[] for _ in self._targets])
        for row in rows:
            at = self._position(row, key)
            outcome.rows[at].append(self._written(row, self._targets[at], key))
        self._check_root(outcome)
        return outcome

    def _rows(self, argument: object, key: Key) -> list[Row]:
        reads = NeedsFetch.raised
        try:
            # A generator runs, and raises, only here.
            rows = self._listed(self._function(argument), key)
        except (Exception, SystemExit) as error:  # a user's function; it goes on as an error of ours
            _check_reads(reads)
            if isinstance(error, ReplicatorError):
                raise
            raise self._raised(error, key) from None
        _check_reads(reads)
        return rows

    def _argument(self, aggregate: SourceAggregate) -> object:
        tables = [table.rows(rows) for table, rows in zip(self._sources, aggregate.tables, strict=True)]
        if not self._takes_aggregate:
            return tables[0][0]
        return new_aggregate(dict(zip(self._source_names, tables, strict=True)), self._source_key)

    def _listed(self, made: object, key: Key) -> list[Row]:
        """The rows that a transform returned, whatever the form."""
        if made is None:
            return []
        if isinstance(made, Row):
            return [made]
        if inspect.iscoroutine(made):
            made.close()  # or Python warns that nobody awaited it
        if isinstance(made, Awaitable | AsyncIterator):
            self._fail(key, f"returned {_a(made)}: a transform must not be async")
        if isinstance(made, Mapping | str | bytes) or not hasattr(made, "__iter__"):
            self._fail(key, f"returned {_a(made)}, where a Row, an iterable of Rows, or None is expected")
        rows = list(made)
        for row in rows:
            if not isinstance(row, Row):
                self._fail(key, f"yielded {_a(row)}, where a Row is expected")
        return rows

    def _position(self, row: Row, key: Key) -> int:
        table = target_of(row)
        if table is None:
            if len(self._targets) > 1:
                names = ", ".join(str(target.name) for target in self._targets)
                self._fail(key, f"returned a row that doesn't say for which table it is: row.to(...) one of {names}")
            return 0
        at = self._positions.get(table)
        if at is None:
            names = ", ".join(str(target.name) for target in self._targets)
            self._fail(key, f"returned a row for {table}, and it is declared for {names}")
        return at

    def _written(self, row: Row, target: _TargetTable, key: Key) -> TargetRow:
        try:
            texts = write_row(row, target.oids)
        except RowError as error:
            self._fail(key, f"returned a row for {target.name} that can't be written: {error}")
        if len(texts) != len(row):
            self._refuse_column(next(name for name in row if name not in target.oids), target, key)
        filled = False
        for at, column in enumerate(target.key):
            value = texts.get(column, UNCHANGED)
            if value is None:
                self._fail(key, f"returned a row for {target.name} whose key column {column} is NULL")
            if value != key[at]:
                if value is not UNCHANGED and not text_equal(value, key[at], self._key_oids[at]):
                    self._fail(
                        key,
                        f"returned a row for {target.name} that belongs to another aggregate: its {column} isn't the "
                        f"{self._source_key[at]} that the function was given (keys change by a KeyMap alone)",
                    )
                texts[column] = key[at]
                filled = True
        # One order of columns for one set of columns, whoever gave the key.
        return {name: texts[name] for name in target.oids if name in texts} if filled else texts

    def _refuse_column(self, name: str, target: _TargetTable, key: Key) -> NoReturn:
        if name in target.columns:
            what = f"column {name} of {target.name}, which the database generates itself: drop it from the row"
        else:
            what = missing_column(name, target.oids, str(target.name))
        self._fail(key, f"returned a row with {what}" if name in target.columns else f"returned a row: {what}")

    def _check_root(self, outcome: Outcome) -> None:
        root = outcome.rows[0]
        if len(root) > 1:
            self._fail(outcome.key, f"returned {len(root)} rows for the root table {self._targets[0].name}, not one")
        if not root and any(outcome.rows):
            self._fail(outcome.key, f"returned rows, but none for the root table {self._targets[0].name}")

    def _raised(self, error: BaseException, key: Key) -> ReplicatorError:
        # Only messages of ours are known to quote no value.
        what = str(error) if isinstance(error, RowError) else f"raised {type(error).__name__}"
        place = user_place(error, self._folder)
        where = f" (at {Path(place).name})" if place else ""
        return self._error(key, f"{what}{where}")

    def _fail(self, key: Key, what: str) -> NoReturn:
        raise self._error(key, what)

    def _error(self, key: Key, what: str) -> ReplicatorError:
        return ReplicatorError(
            f"{self._label}: {what}",
            kind=ErrorKind.TRANSFORM,
            table=self._table,
            key=tuple(value.decode(errors="replace") for value in key),
            hint=_HINT,
        )


def _check_reads(before: int) -> None:
    """A function that caught NeedsFetch, and went on without the value, has made nothing that counts."""
    if NeedsFetch.raised != before:
        raise NeedsFetch("a column that the function went on without")


def _a(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
