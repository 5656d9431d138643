"""What keeps a connector from being compiled: all of it at once, each with its remedy."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from replicator.tables import Catalog, Table, TableName


@dataclass(frozen=True)
class Problem:
    """One thing that can't work as declared.

    Attributes:
        mapping: name of the mapping.
        table: the table concerned, qualified.
        message: what is wrong, in one sentence.
        remedy: what to change.

    """

    mapping: str
    table: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """One line for people."""
        place = self.mapping if self.mapping == self.table else f"{self.mapping}: {self.table}"
        return f"{place}: {self.message}. {self.remedy}"


class CompileError(ReplicatorError):
    """The connector, its transforms and the two catalogs don't fit together.

    Attributes:
        problems: all of them.

    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s'[: count != 1]} in what is mapped:{lines}", kind=ErrorKind.CONFIG)


class Problems:
    """Collects what is found, so that one error can tell all of it."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, mapping: object, table: object, message: str, remedy: str) -> None:
        """Note one."""
        self.found.append(Problem(str(mapping), str(table), message, remedy))

    def refuse(self) -> None:
        """End here, if anything was found.

        Raises:
            CompileError: kind CONFIG, with all of it.

        """
        if self.found:
            raise CompileError(self.found)

    def table(self, mapping: object, name: TableName, catalog: Catalog, side: str) -> Table | None:
        """The table of this name, or None and a problem.

        Args:
            mapping: who asks for it.
            name: the table.
            catalog: where it should be.
            side: "old" or "upgraded", for the message.

        """
        table = catalog.tables.get(name)
        if table is None:
            self.add(
                mapping, name, f"the {side} database has no such table", meant(str(name), map(str, catalog.tables))
            )
        elif table.parent is not None and side == "old":
            self.add(
                mapping, name, f"it is a partition of {table.parent}", f"Name {table.parent}, which stands for all"
            )
            return None
        return table

    def columns(self, mapping: object, table: Table, names: Iterable[str], what: str) -> bool:
        """Whether the table has all these columns; a problem for each that it hasn't.

        Args:
            mapping: who names them.
            table: the table.
            names: the columns.
            what: where they are named, for the message: "drop".

        """
        missing = [name for name in names if name not in table.by_name]
        for name in missing:
            self.add(mapping, table.name, f"{what} names column {name}, which isn't there", meant(name, table.by_name))
        return not missing


def meant(name: str, names: Iterable[str]) -> str:
    """The remedy for a name that isn't there."""
    near = get_close_matches(name, list(names), 1)
    return f"Did you mean {near[0]}?" if near else "Correct the name, or create it"
