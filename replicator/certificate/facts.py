"""What a certificate is about, and what is known when it is judged: values, and digests of what must stay. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replicator.mapping import Mapping as TableMapping
    from replicator.tables import Table


@dataclass(frozen=True)
class Identity:
    """Which database one is.

    Attributes:
        system: the cluster's identifier; a restored copy has the same.
        timeline: another one after a promotion or a restore to a point in time.
        database: its oid: another one, when it was made again.

    """

    system: str
    timeline: int
    database: int

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {"system": self.system, "timeline": self.timeline, "database": self.database}


@dataclass(frozen=True)
class Things:
    """What a certificate is about; compared with what there is when it is read.

    Attributes:
        connector: digests of the parts of the connector that matter to rows, by name.
        mappings: digests of the transforms, by mapping.
        old, upgraded: digests of the shapes of the mapped tables, by name.
        source, target: which databases.
        problems: why some tables can't be mapped, now; never stored.

    """

    connector: Mapping[str, str]
    mappings: Mapping[str, str]
    old: Mapping[str, str]
    upgraded: Mapping[str, str]
    source: Identity
    target: Identity
    problems: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "connector": dict(self.connector),
            "mappings": dict(self.mappings),
            "schemas": {"old": dict(self.old), "upgraded": dict(self.upgraded)},
            "databases": {"source": self.source.to_json(), "target": self.target.to_json()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Things:
        """The inverse."""
        schemas, databases = document["schemas"], document["databases"]
        return cls(
            document["connector"],
            document["mappings"],
            schemas["old"],
            schemas["upgraded"],
            Identity(**databases["source"]),
            Identity(**databases["target"]),
        )


@dataclass(frozen=True)
class StoredCertificate:
    """As it was issued.

    Attributes:
        id: its number.
        issued_at, verified_since: seconds since the epoch: when, and when the verification that proves it had begun.
        run: that verification.
        content: what it says: `things`, tables and their rows, checks, positions.
        void_reason: why it was seen to be void; None: it was not.
        void_at: when.

    """

    id: int
    issued_at: float
    verified_since: float
    run: int
    content: Mapping[str, Any]
    void_reason: str | None = None
    void_at: float | None = None


@dataclass(frozen=True)
class RunFacts:
    """A verification of all mappings, without condition or sample.

    Attributes:
        id: its number.
        started_at: seconds since the epoch.
        finished: it came to its end.
        ok: it found everything equal, and every check that blocks ok.
        tables: those that were not: findings or undecided rows, by upgraded table.
        unsettled: of those, only rows that could not be decided.
        checks: names of the checks that block and were not ok.

    """

    id: int
    started_at: float
    finished: bool
    ok: bool = False
    tables: Sequence[str] = ()
    unsettled: bool = False
    checks: Sequence[str] = ()


@dataclass(frozen=True)
class TargetFacts:
    """What the target's own tables say now.

    Attributes:
        certificate: the newest; None: there has been none.
        run: the newest complete one; None: there has been none.
        state: the feed's; None: it has not begun.
        divergences: open ones, by upgraded table.
        dead_letters: that wait.
        failed_checks: newest results that are not ok and block, by name; those of checks that are gone left out.
        stale: mappings whose rows may have changed without an event, and why.
        requests: kinds of requests under way that write rows anew.
        rewritten: mappings whose rows were copied or derived anew, and when last, in seconds since the epoch.
        undone: mappings some of whose rows are by an earlier transform.

    """

    certificate: StoredCertificate | None = None
    run: RunFacts | None = None
    state: str | None = None
    divergences: Mapping[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    failed_checks: Mapping[str, str] = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)
    requests: Sequence[str] = ()
    rewritten: Mapping[str, float] = field(default_factory=dict)
    undone: Sequence[str] = ()


# -- digests -----------------------------------------------------------------------------------------------------------


def digest_of(*parts: Any) -> str:
    """Of values that JSON can hold, or print as text."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def shape_digest(table: Table) -> str:
    """Of a table's shape: columns and key. Indexes, foreign keys, triggers and where its rows lie are left out."""
    columns = [
        (column.name, column.type_name, column.nullable, column.generated, column.identity) for column in table.columns
    ]
    return digest_of(columns, table.key, table.kind, table.oid)


def shapes(mappings: Iterable[TableMapping], *, source: bool) -> dict[str, str]:
    """Digests of the shapes of one end's mapped tables, by name."""
    return {
        str(side.table.name): shape_digest(side.table)
        for mapping in mappings
        for side in (mapping.sources if source else mapping.targets)
    }
