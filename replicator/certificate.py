"""The certificate: that both databases agreed, row by row, and that nothing has happened since that would put that in
doubt. Pure: what is read is judged here, by one function.

A certificate is issued by a verification of all mappings, complete, without a finding, and with all checks that block
ok. It is void as soon as one of these holds; and once that was noticed, it stays void:

    a transform or the connector is another one      a schema has changed on either side
    a difference is open                             a change waits in the dead letter queue
    a check that blocks is not ok                    a later verification did not come to a proof
    rows may have changed without an event           rows were copied or derived anew since, or will be
    either database is another one: restored, failed over, or made again

How old it may be is not its own affair: a cutover judges that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from replicator.mapping import Mapping as TableMapping
    from replicator.tables import Table

NAMES_MAX: Final = 5


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

    """

    connector: Mapping[str, str]
    mappings: Mapping[str, str]
    old: Mapping[str, str]
    upgraded: Mapping[str, str]
    source: Identity
    target: Identity

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


class Lack(StrEnum):
    """What a certificate lacks, or what voids one."""

    VERIFICATION = "verification"  # none of all mappings has come to its end
    FINDINGS = "findings"  # the newest one found differences
    UNSETTLED = "unsettled"  # or could not decide some rows
    CHECKS = "checks"  # a check that blocks is not ok
    DIVERGENCES = "divergences"  # open ones
    DEAD_LETTERS = "dead_letters"
    TRANSFORM = "transform"
    CONNECTOR = "connector"
    MAPPINGS = "mappings"  # there are others than those that were verified
    SCHEMA = "schema"
    SOURCE = "source"  # another database
    TARGET = "target"
    STALE = "stale"
    REQUESTS = "requests"  # resync, rederive or repair under way
    REWRITTEN = "rewritten"
    REDERIVE = "rederive"
    STATE = "state"  # the feed doesn't stream
    VOID = "void"  # it was seen to be void earlier


@dataclass(frozen=True)
class Missing:
    """One thing that stands between an operator and a certificate.

    Attributes:
        lack: see `Lack`.
        message: in a sentence.
        command: what to do, a command line without the connector's file: `verify`, `dlq list`, ...

    """

    lack: Lack
    message: str
    command: str


@dataclass(frozen=True)
class Assessment:
    """Whether there is a valid certificate.

    Attributes:
        certificate: the newest that was issued, valid or not.
        missing: why it isn't valid, or why there is none; nothing: it is valid.
        voided: of these, what voids the newest certificate, not seen before.

    """

    certificate: StoredCertificate | None
    missing: tuple[Missing, ...]
    voided: tuple[Missing, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the newest certificate proves that both databases agree."""
        return self.certificate is not None and not self.missing


def assess_certificate(facts: TargetFacts, now: Things) -> Assessment:
    """Judge the newest certificate by what there is now.

    Args:
        facts: from the target's tables.
        now: connector, transforms, schemas and databases as they are.

    """
    stored = facts.certificate
    standing = list(_standing(facts))
    if stored is None:
        return Assessment(None, tuple(_first_things(facts, standing)))
    if stored.void_reason is not None:
        earlier = Missing(Lack.VOID, f"the newest certificate is void: {stored.void_reason}", "verify")
        return Assessment(stored, tuple(_merged([*standing, *_of_the_run(facts.run, stored.run), earlier])))
    voided = [
        *_changed(Things.from_json(stored.content["things"]), now),
        *standing,
        *_rewritten(facts, stored.verified_since),
        *_of_the_run(facts.run, stored.run),
    ]
    made = tuple(_merged(voided))
    return Assessment(stored, made, made)


def lacks_of(facts: TargetFacts) -> tuple[Missing, ...]:
    """What keeps a verification that has just come to its end without a finding from being a certificate."""
    run = facts.run
    since = [] if run is None else [*_rewritten(facts, run.started_at)]
    return tuple(_merged([*_standing(facts), *since]))


def _first_things(facts: TargetFacts, standing: Sequence[Missing]) -> list[Missing]:
    run = facts.run
    if run is None or not run.finished:
        running = "" if run is None else ": the newest one runs, or was interrupted"
        return [
            *standing,
            Missing(Lack.VERIFICATION, f"no verification of all tables has come to its end{running}", "verify"),
        ]
    found = _merged([*standing, *_of_the_run(run, None)])
    if found:
        return found
    return [Missing(Lack.VERIFICATION, "the newest verification was not followed by a certificate", "verify")]


def _of_the_run(run: RunFacts | None, certified: int | None) -> Iterable[Missing]:
    """What the newest complete verification came to, where it is not the one that was certified."""
    if run is None or run.id == certified or not run.finished or run.ok:
        return
    if run.tables and run.unsettled:
        yield Missing(
            Lack.UNSETTLED, f"the newest verification could not decide rows of {_names(run.tables)}", "verify"
        )
    elif run.tables:
        yield Missing(Lack.FINDINGS, f"the newest verification found differences in {_names(run.tables)}", "repair")
    if run.checks:
        yield Missing(Lack.CHECKS, f"checks were not ok: {_names(run.checks)}", "verify")


def _standing(facts: TargetFacts) -> Iterable[Missing]:
    """What stands in the way whatever was verified."""
    if facts.state is None:
        yield Missing(Lack.STATE, "the feed has not begun", "run")
    elif facts.state in ("preparing", "copying", "catching_up"):
        yield Missing(Lack.STATE, f"the feed is {facts.state.replace('_', ' ')}", "status")
    if facts.divergences:
        total = sum(facts.divergences.values())
        yield Missing(Lack.DIVERGENCES, f"{total:,} rows differ: {_names(facts.divergences)}", "repair")
    if facts.dead_letters:
        yield Missing(Lack.DEAD_LETTERS, f"{facts.dead_letters:,} changes wait in the dead letter queue", "dlq list")
    if facts.failed_checks:
        told = "; ".join(f"{name}: {message}" for name, message in list(facts.failed_checks.items())[:NAMES_MAX])
        yield Missing(Lack.CHECKS, f"checks are not ok: {told}", "verify")
    for mapping, reason in facts.stale.items():
        yield Missing(Lack.STALE, f"rows of {mapping} may have changed without an event: {reason}", f"resync {mapping}")
    if facts.requests:
        yield Missing(Lack.REQUESTS, f"rows are being written anew: {_names(facts.requests)}", "status")
    for mapping in facts.undone:
        yield Missing(Lack.REDERIVE, f"rows of {mapping} are by an earlier transform", f"rederive --table {mapping}")


def _changed(then: Things, now: Things) -> Iterable[Missing]:
    """What is not as it was when it was certified."""
    for side, lack, one, other in (
        ("old", Lack.SOURCE, then.source, now.source),
        ("upgraded", Lack.TARGET, then.target, now.target),
    ):
        if one != other:
            yield Missing(
                lack, f"the {side} database is another one than was verified: {_identity(one, other)}", "verify"
            )
    gone = [name for name in then.mappings if name not in now.mappings]
    new = [name for name in now.mappings if name not in then.mappings]
    if gone or new:
        words = f"{_names(new) or 'none'} came, {_names(gone) or 'none'} went"
        yield Missing(Lack.MAPPINGS, f"other tables are mapped than were verified: {words}", "verify")
    changed = [name for name, digest in then.mappings.items() if now.mappings.get(name, digest) != digest]
    if changed:
        message = f"another transform than was verified: {_names(changed)}"
        yield Missing(Lack.TRANSFORM, message, f"rederive --table {changed[0]}")
    parts = [
        name for name in {**then.connector, **now.connector} if then.connector.get(name) != now.connector.get(name)
    ]
    if parts:
        yield Missing(Lack.CONNECTOR, f"the connector has changed: {_names(sorted(parts))}", "verify")
    for side, one_schema, other_schema in (("old", then.old, now.old), ("upgraded", then.upgraded, now.upgraded)):
        tables = [name for name, digest in one_schema.items() if other_schema.get(name) != digest]
        tables = [name for name in tables if name in other_schema or not (gone or new)]
        if tables:
            yield Missing(Lack.SCHEMA, f"the {side} side's schema has changed: {_names(tables)}", "plan")


def _identity(then: Identity, now: Identity) -> str:
    if then.system != now.system:
        return "another cluster"
    if then.database != now.database:
        return "it was made again"
    return f"its timeline was {then.timeline} and is {now.timeline}: it was restored, or failed over"


def _rewritten(facts: TargetFacts, since: float) -> Iterable[Missing]:
    found = [name for name, at in facts.rewritten.items() if at > since]
    if found:
        message = f"rows were copied or derived anew since they were verified: {_names(found)}"
        yield Missing(Lack.REWRITTEN, message, "verify")


def _merged(found: Iterable[Missing]) -> list[Missing]:
    """One of each sort where several say the same; those that ask for more than a verification first."""
    kept: dict[tuple[Lack, str], Missing] = {}
    for one in found:
        several = one.lack in (Lack.STALE, Lack.REDERIVE)
        kept.setdefault((one.lack, one.message if several else ""), one)
    lacks = {one.lack for one in kept.values()}
    if Lack.DIVERGENCES in lacks:
        kept.pop((Lack.FINDINGS, ""), None)
    return sorted(kept.values(), key=lambda one: one.command == "verify")


def _names(names: Collection[str]) -> str:
    shown = list(names)[:NAMES_MAX]
    left = len(names) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


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
