"""What a plan says: findings with a level and a remedy, and what would happen table by table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from replicator.tables import TableName, quote_identifier


class Level(StrEnum):
    """How much a finding matters."""

    STOP = "stop"  # it can't work, or something would be lost: nothing is started
    WARN = "warn"  # it works, and somebody should know before
    NOTE = "note"  # what happens, for the record


SILENT: Final = frozenset(
    {
        *("type", "unlogged", "foreign_partition", "replica_identity", "subscription", "same_database", "encoding"),
        *("debezium_loss", "debezium_order", "log_order"),
    }
)
"""Codes of what would go wrong without an error: a start refuses these too; of the others it hears by itself."""


@dataclass(frozen=True)
class Finding:
    """One thing that a plan found.

    Attributes:
        level: see `Level`.
        code: stable word for programs, such as `replica_identity`.
        subject: what it is about: a table, a column, `old server`.
        message: one or two sentences.
        remedy: statements to run (as the DBA), or a line for the connector; '' where there is nothing to do.
        mapping: name of the mapping that it concerns, None for the whole.

    """

    level: Level
    code: str
    subject: str
    message: str
    remedy: str = ""
    mapping: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "level": str(self.level),
            "code": self.code,
            "subject": self.subject,
            "message": self.message,
            "remedy": self.remedy,
            "mapping": self.mapping,
        }


@dataclass(frozen=True)
class MappingPlan:
    """What would happen to one mapping's tables.

    Attributes:
        name: the mapping's.
        old, upgraded: tables, the root first.
        how: `same shape`, or the transform's label; then what else is done (`read back`, `keys translated`).
        key: the aggregate's key at old; empty for a table without one.
        upgraded_key: likewise at upgraded.
        replica_identity: of old's root, in words.
        rows_estimate: of old's root, None unknown.
        bytes: of old's tables.
        topics: of old's tables, each with its partitions (None: it is not there yet); none for a slot, and where the
            brokers could not be asked.

    """

    name: str
    old: tuple[TableName, ...]
    upgraded: tuple[TableName, ...]
    how: tuple[str, ...]
    key: tuple[str, ...]
    upgraded_key: tuple[str, ...]
    replica_identity: str
    rows_estimate: int | None
    bytes: int
    topics: tuple[tuple[str, int | None], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "old": [str(table) for table in self.old],
            "upgraded": [str(table) for table in self.upgraded],
            "how": list(self.how),
            "key": list(self.key),
            "upgraded_key": list(self.upgraded_key),
            "replica_identity": self.replica_identity,
            "rows_estimate": self.rows_estimate,
            "bytes": self.bytes,
            "topics": [{"name": name, "partitions": partitions} for name, partitions in self.topics],
        }


@dataclass(frozen=True)
class Assessment:
    """A plan: what would happen, and what stands in the way.

    Attributes:
        connector: its name.
        mappings: in the order of their names.
        findings: stops first, then warnings, then notes; within a level in the order of the mappings.
        whole_transactions: every target commit is a whole number of source transactions (promise P3).
        transactions_reason: why, or why not.
        write_order: upgraded tables, parents before children.
        unmapped: old tables that no mapping names.

    """

    connector: str
    mappings: tuple[MappingPlan, ...]
    findings: tuple[Finding, ...]
    whole_transactions: bool
    transactions_reason: str
    write_order: tuple[TableName, ...] = ()
    unmapped: tuple[TableName, ...] = field(default=())

    @property
    def stops(self) -> tuple[Finding, ...]:
        """What must be mended before this connector can run."""
        return tuple(finding for finding in self.findings if finding.level is Level.STOP)

    @property
    def losses(self) -> tuple[Finding, ...]:
        """Those of `stops` that no error would tell of while it runs."""
        return tuple(finding for finding in self.stops if finding.code in SILENT)

    def of(self, mapping: str) -> tuple[Finding, ...]:
        """The findings about one mapping."""
        return tuple(finding for finding in self.findings if finding.mapping == mapping)

    @property
    def general(self) -> tuple[Finding, ...]:
        """The findings about the whole: servers, rights, order."""
        return tuple(finding for finding in self.findings if finding.mapping is None)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "connector": self.connector,
            "can_run": not self.stops,
            "mappings": [mapping.to_json() for mapping in self.mappings],
            "findings": [finding.to_json() for finding in self.findings],
            "whole_transactions": {"promised": self.whole_transactions, "reason": self.transactions_reason},
            "write_order": [str(table) for table in self.write_order],
            "unmapped": [str(table) for table in self.unmapped],
        }


_RANK = {Level.STOP: 0, Level.WARN: 1, Level.NOTE: 2}


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Stops first; otherwise as they came, each once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: _RANK[finding.level]))


def quoted(name: str) -> str:
    """A role's or a database's name for a statement to be run: always quoted, for it may be a reserved word."""
    return '"' + name.replace('"', '""') + '"'


def column_list(columns: Iterable[str]) -> str:
    """`a, b`, for people."""
    return ", ".join(map(quote_identifier, columns))


def table_list(tables: Iterable[TableName]) -> str:
    """`public.a, public.b`, for a statement or for people."""
    return ", ".join(map(str, tables))
