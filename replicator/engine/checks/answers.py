"""Results of two queries, brought to a form in which equal rows are equal. Pure.

Two columns of one type are compared as verification compares them; numbers of different types by value; all else by
text. A row is known by its first column, except where there is but one row of one column: that is a value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from replicator.equality import Equal, Equality
from replicator.tables import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replicator.checks import Answer
    from replicator.engine.checks.judges import Group, Name
    from replicator.events import Values

LABEL_MAX: Final = 80
NULL: Final = "NULL"

_NUMERIC: Final = Column("", 1700, "numeric", "numeric")
_TEXT: Final = Column("", 25, "text", "text")
_DOCUMENT: Final = Column("", 3802, "jsonb", "jsonb")
_NUMBERS: Final = frozenset({"smallint", "integer", "bigint", "numeric", "real", "double precision"})
_DOCUMENTS: Final = frozenset({"json", "jsonb"})


def compared_as(old: Column, upgraded: Column) -> Column:
    """As values of which type two columns are compared."""
    one, other = (each.cast_type.removeprefix("pg_catalog.") for each in (old, upgraded))
    if one == other:
        return replace(old, base_typmod=-1)
    if one in _NUMBERS and other in _NUMBERS:
        return _NUMERIC
    if one in _DOCUMENTS and other in _DOCUMENTS:
        return _DOCUMENT
    return _TEXT


class Answers:
    """Both sides' results of one rule.

    Args:
        old, upgraded: the first results: their columns are those of all later ones.
        tolerance: see `checks.SqlRule`.

    """

    def __init__(self, old: Answer, upgraded: Answer, tolerance: Decimal | None) -> None:
        columns = [compared_as(*pair) for pair in zip(old.columns, upgraded.columns, strict=True)]
        self._equalities = [Equality(column, tolerance) for column in columns]
        self._tolerance = tolerance
        self._texts: dict[Hashable, Values] = {}
        self.names = tuple(column.name for column in upgraded.columns)
        self.keyed = len(columns) > 1 or max(len(old.rows), len(upgraded.rows)) > 1
        """Whether the first column tells rows apart."""

    def grouped(self, answer: Answer) -> dict[Name, Group]:
        """The rows of a result by their names."""
        groups: dict[Name, Group] = {}
        for row in answer.rows:
            made = tuple([one.canonical(value) for one, value in zip(self._equalities, row, strict=True)])
            if self._tolerance is not None or made not in self._texts:
                self._texts[made] = row
            groups.setdefault(made[0] if self.keyed else None, Counter())[made] += 1
        return groups

    def near(self, one: Group, other: Group) -> bool:
        """Whether two groups are equal, or differ by no more than the tolerance: row by row, in order of their text."""
        if one == other:
            return True
        if self._tolerance is None or one.total() != other.total():
            return False
        pairs = zip(self._rows(one), self._rows(other), strict=True)
        return all(self._near(first, second) for first, second in pairs)

    def _near(self, one: Values, other: Values) -> bool:
        found = (each.compare(a, b) for each, a, b in zip(self._equalities, one, other, strict=True))
        return all(each is not Equal.DIFFERENT for each in found)

    def _rows(self, group: Group) -> list[Values]:
        return sorted((self._texts[row] for row in group.elements()), key=repr)

    def different(self, one: Group, other: Group) -> tuple[str, ...]:
        """Names of columns that differ, where each side has one row; none where rows lack."""
        if one.total() != 1 or other.total() != 1:
            return ()
        (first,), (second,) = self._rows(one), self._rows(other)
        return tuple(
            name
            for name, each, a, b in zip(self.names, self._equalities, first, second, strict=True)
            if each.compare(a, b) is Equal.DIFFERENT
        )

    def label(self, *groups: Group) -> str:
        """A row's first column, for people: what the server printed."""
        return next((text_of(self._texts[row][0]) for group in groups for row in group), "")

    def shown(self, group: Group) -> str:
        """A group's rows with all their values."""
        return "; ".join(", ".join(map(text_of, row)) for row in self._rows(group)[:3]) or "no row"


def text_of(value: object) -> str:
    """A value for people, cut where it is long."""
    if not isinstance(value, bytes):
        return NULL
    text = value.decode(errors="replace")
    return text if len(text) <= LABEL_MAX else text[: LABEL_MAX - 1] + "…"


def key_text(values: Sequence[object]) -> str:
    """A key for people: `7`, or `(3, b53)`."""
    texts = list(map(text_of, values))
    return texts[0] if len(texts) == 1 else "(" + ", ".join(texts) + ")"


def listed(texts: Iterable[str], total: int, most: int) -> str:
    """`7, 8 and 3 more`."""
    shown = list(texts)[:most]
    left = total - len(shown)
    return ", ".join(shown) + (f" and {left:,} more" if left else "")
