"""One direction, as it is assessed: its ends by name, their facts, and what is mapped between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from replicator.assess.facts import Facts
from replicator.assess.findings import Finding, Level
from replicator.mapping import Mapping, Mappings
from replicator.tables import Table


@dataclass(frozen=True)
class AssessedFeed:
    """One feed to be assessed.

    Attributes:
        source: facts of the database whose changes are read.
        target: facts of the database that is written.
        mappings: compiled for this direction.
        forward: old to upgraded. The reverse feed runs only after a cutover, so what it lacks doesn't stop a start.

    """

    source: Facts
    target: Facts
    mappings: Mappings
    forward: bool = True

    @property
    def source_name(self) -> str:
        """`old` or `upgraded`."""
        return "old" if self.forward else "upgraded"

    @property
    def target_name(self) -> str:
        """`upgraded` or `old`."""
        return "upgraded" if self.forward else "old"

    @property
    def stop(self) -> Level:
        """STOP; for the reverse feed a warning, for it can still be mended before the cutover."""
        return Level.STOP if self.forward else Level.WARN

    def finding(
        self, level: Level, code: str, subject: object, message: str, remedy: str = "", *, of: Mapping | None = None
    ) -> Finding:
        """A finding; one of the reverse feed says so."""
        text = message if self.forward else f"For the way back: {message}"
        return Finding(level, code, str(subject), text, remedy, None if of is None else of.name)

    def published(self) -> Iterator[tuple[Mapping, Table, tuple[str, ...]]]:
        """Every source table with its mapping and the columns of the aggregate's key."""
        for mapping in self.mappings.all:
            for side in mapping.sources:
                yield mapping, side.table, side.key

    def physical(self, table: Table) -> tuple[Table, ...]:
        """A source table and its leaf partitions, as far as they are tables of this server."""
        known = self.source.catalog.tables
        return (table, *(known[leaf] for leaf in table.leaves if leaf in known))
