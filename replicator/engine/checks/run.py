"""All checks of a connector, one after the other; one that can't be carried out says so, and stops no other."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from replicator.checks import CheckKind, CheckResult, Severity
from replicator.engine.checks import constraints
from replicator.engine.checks.looks import KEYS_MAX, Ends, Found, look_at_pair, look_at_source, look_at_target
from replicator.engine.checks.suites import look_at_suite
from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.checks import RunSuite, SqlRule, SuiteRule
    from replicator.mapping import Mapping as TableMapping
    from replicator.verification import Counts

OF_THE_CHECK: Final = frozenset(
    {
        ErrorKind.SCHEMA,
        ErrorKind.DATA,
        ErrorKind.PERMISSION,
        ErrorKind.TIMEOUT,
        ErrorKind.CONFIG,
        ErrorKind.SERIALIZATION,
        ErrorKind.READ_ONLY,
        ErrorKind.INTERNAL,
    }
)
"""Errors that leave one check undecided; all others are of the databases, and end the run."""

Look = Callable[[], Awaitable[Found]]


@dataclass(frozen=True)
class Wanted:
    """What is checked.

    Attributes:
        mappings: whose targets' constraints are looked at.
        sql: the business's rules.
        suites: of Great Expectations.
        counts: by target table, of a complete verification; None without one.

    """

    mappings: Sequence[TableMapping]
    sql: Sequence[SqlRule] = ()
    suites: Sequence[SuiteRule] = ()
    counts: Mapping[str, Counts] | None = None


@dataclass
class CheckRun:
    """Carries checks out.

    Args:
        ends: both databases.
        run_suite: see `checks.RunSuite`.

    """

    ends: Ends
    run_suite: RunSuite
    results: list[CheckResult] = field(default_factory=list)

    async def run(self, wanted: Wanted) -> list[CheckResult]:
        """All of them, in order: counts, constraints, sequences, the business's own.

        Raises:
            ReplicatorError: CONNECTION, RESOURCES.

        """
        ends = self.ends
        if wanted.counts is not None:
            self.results += counted(wanted.mappings, wanted.counts)
        tables = {side.table.name: side.table for mapping in wanted.mappings for side in mapping.targets}
        rules = await ends.target.rules(list(tables.values()))
        for key in rules.foreign_keys:
            look = partial(constraints.look_at_foreign_key, key, ends)
            severity = constraints.foreign_key_severity(key)
            await self._carry_out(constraints.foreign_key_name(key), CheckKind.FOREIGN_KEY, severity, look)
        for unique in rules.unique_keys:
            look = partial(constraints.look_at_unique_key, unique, ends)
            await self._carry_out(constraints.unique_name(unique), CheckKind.UNIQUE, Severity.BLOCK, look)
        for sequence in rules.sequences:
            look = partial(constraints.look_at_sequence, sequence, ends)
            await self._carry_out(constraints.sequence_name(sequence), CheckKind.SEQUENCE, Severity.WARN, look)
        for rule in wanted.sql:
            await self._carry_out(rule.name, CheckKind.SQL, rule.severity, partial(_look_at(rule), rule, ends))
        for suite in wanted.suites:
            look = partial(look_at_suite, suite, ends, self.run_suite)
            await self._carry_out(suite.name, CheckKind.GREAT_EXPECTATIONS, suite.severity, look)
        return self.results

    async def _carry_out(self, name: str, kind: CheckKind, severity: Severity, look: Look) -> None:
        began = time.monotonic()
        try:
            found = await look()
        except ReplicatorError as error:
            if error.kind not in OF_THE_CHECK:
                raise
            found = Found(ok=None, message=str(error))
        result = CheckResult(
            name,
            kind,
            found.ok,
            severity,
            found.message,
            found.keys[:KEYS_MAX],
            found.position,
            time.monotonic() - began,
        )
        self.results.append(result)
        if result.ok is not True:
            log = structlog.get_logger("replicator.checks")
            # The message may show values, where the check says so: it is for the report, not for the log.
            log.warning("check failed" if result.ok is False else "check undecided", check=name, severity=str(severity))


def _look_at(rule: SqlRule) -> Callable[[SqlRule, Ends], Awaitable[Found]]:
    if rule.old is None:
        return look_at_target
    return look_at_source if rule.upgraded is None else look_at_pair


def counted(mappings: Sequence[TableMapping], tables: Mapping[str, Counts]) -> list[CheckResult]:
    """What the rows of each target table come from, and whether they are all there: of a complete verification."""
    return [
        CheckResult(
            f"{CheckKind.ROWS} {table}",
            CheckKind.ROWS,
            None if counts.unsettled else not (counts.missing or counts.extra),
            message=_explained(mappings, table, counts),
        )
        for table, counts in sorted(tables.items())
    ]


def _explained(mappings: Sequence[TableMapping], table: str, counts: Counts) -> str:
    """`2,300 rows of 1,000 of public.users (100 give none, 2.56 a row); 2,299 found`."""
    roots = [
        str(mapping.root.table.name)
        for mapping in mappings
        if any(str(side.table.name) == table for side in mapping.targets)
    ]
    giving = counts.aggregates - counts.filtered
    notes = [f"{counts.filtered:,} give none"] if counts.filtered else []
    if giving and counts.rows != giving:
        notes.append(f"{counts.rows / giving:.2f} a row")
    explained = f" ({', '.join(notes)})" if notes else ""
    found = counts.rows - counts.missing + counts.extra
    undecided = f", {counts.unsettled:,} undecided" if counts.unsettled else ""
    return (
        f"{counts.rows:,} rows of {counts.aggregates:,} of {' and '.join(dict.fromkeys(roots))}{explained}; "
        f"{found:,} found{undecided}"
    )
