"""Checks what a transform promises: that it is pure, that its rows fit, and that its inverse leads back.

    aggregate ──forward──▶ rows, keys translated ──inverse──▶ rows, keys translated back ══? aggregate

Aggregates are generated from the catalog, and sampled from the old database by the caller. Nothing here reads or writes
a database: what a column does to a value it takes is imitated for the common types (see `stored`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from replicator.compile import compile_partly
from replicator.errors import ReplicatorError
from replicator.lawcheck.aggregates import Generator
from replicator.lawcheck.laws import Finding, fresh, purity, returning, round_trip, settled
from replicator.lawcheck.pairs import KeyPairs, TwoKeysBecomeOneError
from replicator.lawcheck.report import Difference, Law, LawFailure, LawReport
from replicator.lawcheck.values import CannotGenerateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from replicator.compile import TableEntry
    from replicator.mapping import Mapping, Mappings, Outcome, SourceAggregate, TargetRow
    from replicator.tables import Catalog
    from replicator.transforms import Transform

__all__ = ["Difference", "Law", "LawCheck", "LawFailure", "LawReport"]


class LawCheck:
    """Checks the transforms of one connector.

    Args:
        tables: the connector's entries for tables of the same shape.
        transforms: what `load_transforms` found.
        old: the old database's catalog.
        upgraded: the upgraded database's.
        seed: the same seed generates the same aggregates.
        show_values: put values into the failures; they are left out otherwise.

    Raises:
        CompileError: the forward mappings don't compile.

    """

    def __init__(
        self,
        tables: Iterable[TableEntry],
        transforms: Iterable[Transform[Any, Any]],
        old: Catalog,
        upgraded: Catalog,
        *,
        seed: int,
        show_values: bool = False,
    ) -> None:
        listed, declared = tuple(tables), tuple(transforms)
        forward, problems = compile_partly(listed, declared, old, upgraded, forward=True)
        problems.refuse()
        reverse, self._reverse_problems = compile_partly(listed, declared, old, upgraded, forward=False)
        self._forward: Mappings = forward
        self._reverse = {mapping.name: mapping for mapping in reverse.all}
        self._old = old
        self._upgraded = upgraded
        self._seed = seed
        self._show_values = show_values

    @property
    def mappings(self) -> tuple[Mapping, ...]:
        """What there is to check: the mappings with a function (one of the same shape is its own inverse)."""
        return tuple(mapping for mapping in self._forward.all if mapping.function is not None)

    def check(self, mapping: Mapping, sampled: Sequence[SourceAggregate], generated: int) -> LawReport:
        """Check one transform.

        Args:
            mapping: one of `mappings`.
            sampled: aggregates of the old database.
            generated: how many to generate.

        """
        return _Run(self, mapping, sampled).report(generated)

    def reverse_of(self, mapping: Mapping) -> tuple[Mapping | None, str]:
        """The reverse mapping, or None and why there is none."""
        found = self._reverse.get(mapping.name)
        reasons = [str(problem) for problem in self._reverse_problems.found if problem.mapping == mapping.name]
        return found, "; ".join(reasons)

    def generators(self, mapping: Mapping, sampled: Sequence[SourceAggregate]) -> tuple[Generator, Generator]:
        """What makes aggregates of the old side, and defaults of the upgraded one."""
        name = f"{self._seed}/{mapping.name}"  # one transform's aggregates don't depend on what was checked before
        return (
            Generator(mapping.sources, self._old, sampled, Random(name)),  # noqa: S311 - repeatable, not secret
            Generator(mapping.targets, self._upgraded, (), Random(name)),  # noqa: S311
        )

    @property
    def seed(self) -> int:
        """What makes the generated aggregates repeatable."""
        return self._seed

    @property
    def show_values(self) -> bool:
        """Whether failures hold values."""
        return self._show_values


class _Run:
    """One transform's check, from its first aggregate to its report."""

    def __init__(self, laws: LawCheck, mapping: Mapping, sampled: Sequence[SourceAggregate]) -> None:
        self._laws = laws
        self._mapping = mapping
        self._samples = sampled
        self._reverse, self._no_reverse = laws.reverse_of(mapping)
        self._generator, self._defaults = laws.generators(mapping, sampled)
        self._pairs = KeyPairs()
        self._filtered = 0
        self._accepted = 0
        self._refused: Counter[str] = Counter()
        self._failures: dict[tuple[object, ...], LawFailure] = {}
        self._unknown: list[str] = []

    def report(self, generated: int) -> LawReport:
        for aggregate in self._samples:
            self._try(aggregate, sampled=True)
        try:
            for _ in range(generated):
                self._try(self._generator.aggregate(), sampled=False)
        except CannotGenerateError as error:
            self._unknown.append(f"no aggregate could be generated: column {error} needs a value of an unknown type")
        self._tell_unknown(generated)
        return LawReport(
            mapping=self._mapping.name,
            label=self._mapping.label,
            seed=self._laws.seed,
            generated=self._accepted,
            sampled=len(self._samples),
            filtered=self._filtered,
            refused=dict(self._refused),
            failures=tuple(self._failures.values()),
            unknown=tuple(dict.fromkeys(self._unknown)),
        )

    def _tell_unknown(self, generated: int) -> None:
        if self._reverse is None:
            self._unknown.append(f"the round trip: {self._no_reverse or 'there is no inverse'}")
        if not self._samples:
            self._unknown.append("rows of the old database: none was sampled")
        if generated and not self._accepted and self._refused:
            self._unknown.append("generated aggregates: the transform took none of them")
        self._unknown += [f"values of {column}: only sampled ones, or NULL" for column in self._generator.unknown()]

    def _try(self, aggregate: SourceAggregate, *, sampled: bool) -> None:
        first, refusal = self._run(self._mapping, aggregate)
        second, other = self._run(self._mapping, aggregate)
        if first is None or second is None:
            if refusal != other:
                self._note(self._impure(), aggregate, sampled=sampled)
            elif sampled:
                self._note(Finding(Law.RUNS, self._table, (), refusal), aggregate, sampled=True)
            else:
                self._refused[refusal] += 1
            return
        findings = list(purity(self._mapping, first, second))
        try:
            tables, misfits = settled(self._mapping, first, self._pairs)
        except TwoKeysBecomeOneError:
            tables, misfits = [], [Finding(Law.KEYS, self._table, (), "the key function gives one key for two rows")]
        except ReplicatorError as error:
            tables, misfits = [], [Finding(Law.RUNS, self._table, (), error.message)]
        if misfits and not sampled and all(finding.law is not Law.KEYS for finding in misfits):
            self._refused[misfits[0].message] += 1
            return
        self._accepted += not sampled
        findings += misfits
        if not any(first.rows):
            self._filtered += 1
        elif not findings:
            findings += self._back(aggregate, tables)
        for finding in findings:
            self._note(finding, aggregate, sampled=sampled)

    def _back(self, aggregate: SourceAggregate, tables: list[list[TargetRow]]) -> list[Finding]:
        """The round trip of one aggregate that went forward without a finding."""
        if self._reverse is None:
            return []
        try:
            upgraded = returning(self._reverse, tables, self._defaults)
        except CannotGenerateError as error:
            self._unknown.append(f"the round trip: the default of column {error}, of an unknown type")
            return []
        back, refusal = self._run(self._reverse, upgraded)
        again, _ = self._run(self._reverse, upgraded)
        if back is None or again is None:
            return [Finding(Law.ROUND_TRIP, self._table, (), f"the inverse fails: {refusal}")]
        if not any(back.rows):
            return [Finding(Law.ROUND_TRIP, self._table, (), "the inverse returned nothing")]
        try:
            rows, misfits = settled(self._reverse, back, self._pairs)
        except ReplicatorError as error:
            return [Finding(Law.ROUND_TRIP, self._table, (), error.message)]
        except TwoKeysBecomeOneError:
            return [Finding(Law.KEYS, self._table, (), "the inverse key function gives one key for two rows")]
        found = [*purity(self._reverse, back, again), *misfits]
        return found or list(round_trip(self._mapping, aggregate, rows))

    @property
    def _table(self) -> str:
        return str(self._mapping.root.table.name)

    def _impure(self) -> Finding:
        return Finding(Law.PURE, self._table, (), "two runs on the same aggregate: one failed, the other didn't")

    def _run(self, mapping: Mapping, aggregate: SourceAggregate) -> tuple[Outcome | None, str]:
        """What the function makes of it; or None and why it doesn't take it."""
        assert mapping.function is not None
        try:
            return mapping.function(fresh(aggregate)), ""
        except ReplicatorError as error:
            return None, error.message

    def _note(self, finding: Finding, aggregate: SourceAggregate, *, sampled: bool) -> None:
        """Count it; keep the first, and rather a sampled one than a generated one."""
        at = (finding.law, finding.table, finding.columns, finding.message)
        known = self._failures.get(at)
        if known is not None:
            self._failures[at] = replace(known, count=known.count + 1)
            return
        self._failures[at] = LawFailure(
            finding.law,
            finding.table,
            finding.columns,
            finding.message,
            sampled=sampled,
            key=tuple(value.decode(errors="replace") for value in aggregate.key),
            differences=finding.differences if self._laws.show_values else (),
        )
