"""Whether there is a valid certificate, and what is missing: one function over what is known. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from replicator.certificate.facts import Identity, RunFacts, StoredCertificate, TargetFacts, Things

NAMES_MAX: Final = 5


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
    if now.problems:
        yield Missing(Lack.MAPPINGS, f"what is mapped doesn't fit any more: {now.problems[0]}", "plan")
    elif gone or new:
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
