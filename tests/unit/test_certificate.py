"""Each thing that voids a certificate, one by one, and what is told where there is none."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from replicator.certificate import (
    Identity,
    Lack,
    RunFacts,
    StoredCertificate,
    TargetFacts,
    Things,
    assess_certificate,
    lacks_of,
    shape_digest,
)
from replicator.tables import Column, ForeignKey, Table, TableName, Trigger, UniqueKey

NOW = Things(
    connector={"checks": "c1", "verify.tolerance": "t1"},
    mappings={"public.users": "m1", "public.orders": "m2"},
    old={"public.users": "s1", "public.orders": "s2"},
    upgraded={"crm.users": "s3", "crm.orders": "s4"},
    source=Identity("71", 1, 16384),
    target=Identity("72", 1, 16385),
)
STORED = StoredCertificate(3, issued_at=1000.0, verified_since=900.0, run=7, content={"things": NOW.to_json()})
RUN = RunFacts(7, 900.0, finished=True, ok=True)
FACTS = TargetFacts(
    certificate=STORED, run=RUN, state="streaming", rewritten={"public.users": 100.0, "public.orders": 899.0}
)


def lacks(facts: TargetFacts, now: Things = NOW) -> list[Lack]:
    return [one.lack for one in assess_certificate(facts, now).missing]


def test_nothing_has_happened() -> None:
    """A certificate stays valid while everything is as it was, and says what it is about as it was stored."""
    assessment = assess_certificate(FACTS, NOW)
    assert assessment.valid
    assert STORED == assessment.certificate
    assert NOW == Things.from_json(NOW.to_json())


CHANGED: list[tuple[Lack, dict[str, Any]]] = [
    (Lack.TRANSFORM, {"mappings": {"public.users": "other", "public.orders": "m2"}}),
    (Lack.MAPPINGS, {"mappings": {"public.users": "m1", "public.orders": "m2", "public.new": "m3"}}),
    (Lack.MAPPINGS, {"mappings": {"public.users": "m1"}}),
    (Lack.MAPPINGS, {"mappings": {"public.users": "m1"}, "problems": ["public.orders: it has no column n"]}),
    (Lack.CONNECTOR, {"connector": {"checks": "other", "verify.tolerance": "t1"}}),
    (Lack.CONNECTOR, {"connector": {"checks": "c1", "verify.tolerance": "other"}}),
    (Lack.SCHEMA, {"old": {"public.users": "other", "public.orders": "s2"}}),
    (Lack.SCHEMA, {"upgraded": {"crm.users": "s3", "crm.orders": "other"}}),
    (Lack.SOURCE, {"source": Identity("71", 2, 16384)}),  # restored to a moment, or failed over
    (Lack.SOURCE, {"source": Identity("70", 1, 16384)}),
    (Lack.TARGET, {"target": Identity("72", 1, 20000)}),  # dropped, and made again
]


@pytest.mark.parametrize("lack, change", CHANGED, ids=lambda value: str(value)[:40])
def test_what_has_changed_voids_it(lack: Lack, change: dict[str, Any]) -> None:
    """Transforms, mapped tables, connector, schemas and databases are those that were verified."""
    assessment = assess_certificate(FACTS, replace(NOW, **change))
    assert [lack] == [one.lack for one in assessment.missing]
    assert assessment.missing == assessment.voided


HAPPENED: list[tuple[Sequence[Lack], dict[str, Any]]] = [
    ([Lack.DIVERGENCES], {"divergences": {"crm.users": 2}}),
    ([Lack.DEAD_LETTERS], {"dead_letters": 1}),
    ([Lack.CHECKS], {"failed_checks": {"invoices balance": "failed"}}),
    ([Lack.CHECKS], {"failed_checks": {"invoices balance": "undecided"}}),
    ([Lack.STALE], {"stale": {"public.users": "partition attached"}}),
    ([Lack.REQUESTS], {"requests": ["resync"]}),
    ([Lack.REQUESTS], {"requests": ["rederive"]}),
    ([Lack.REQUESTS], {"requests": ["repair"]}),
    ([Lack.REWRITTEN], {"rewritten": {"public.users": 901.0}}),
    ([Lack.REDERIVE], {"undone": ["public.users"]}),
    ([Lack.STATE], {"state": "catching_up"}),
    ([Lack.STATE], {"state": None}),
    ([Lack.UNSETTLED], {"run": RunFacts(8, 950.0, finished=True, tables=["crm.users"], unsettled=True)}),
    ([Lack.CHECKS], {"run": RunFacts(8, 950.0, finished=True, checks=["invoices balance"])}),
    ([Lack.FINDINGS], {"run": RunFacts(8, 950.0, finished=True, tables=["crm.users"])}),
]


@pytest.mark.parametrize("wanted, change", HAPPENED, ids=lambda value: str(value)[:60])
def test_what_has_happened_voids_it(wanted: Sequence[Lack], change: dict[str, Any]) -> None:
    """Differences, dead letters, failed checks, rows written anew, a later verification that proved nothing."""
    assert wanted == lacks(replace(FACTS, **change))


HARMLESS: list[dict[str, Any]] = [
    {"run": RunFacts(8, 950.0, finished=False)},
    {"run": RunFacts(8, 950.0, finished=True, ok=True)},
    {"state": "failed"},
    {"requests": []},
]


@pytest.mark.parametrize("change", HARMLESS, ids=str)
def test_what_says_nothing_doesnt_void_it(change: dict[str, Any]) -> None:
    """A verification that runs, or was interrupted, or a feed that has stopped, puts nothing in doubt."""
    assert [] == lacks(replace(FACTS, **change))


def test_once_void_it_stays_void() -> None:
    """What was seen void isn't valid again when its reason is gone; only another verification issues another one."""
    stored = replace(STORED, void_reason="2 rows differ", void_at=1100.0)
    assessment = assess_certificate(replace(FACTS, certificate=stored), NOW)
    assert [Lack.VOID] == [one.lack for one in assessment.missing]
    assert "2 rows differ" in assessment.missing[0].message
    assert () == assessment.voided


@pytest.mark.parametrize(
    "wanted, change",
    [
        ([Lack.VERIFICATION], {"run": None}),
        ([Lack.VERIFICATION], {"run": RunFacts(1, 1.0, finished=False)}),
        ([Lack.DEAD_LETTERS, Lack.VERIFICATION], {"run": None, "dead_letters": 3}),
        ([Lack.DIVERGENCES], {"run": RunFacts(1, 1.0, finished=True, tables=["a.b"]), "divergences": {"a.b": 1}}),
        ([Lack.UNSETTLED], {"run": RunFacts(1, 1.0, finished=True, tables=["a.b"], unsettled=True)}),
        ([Lack.VERIFICATION], {"run": RunFacts(1, 1.0, finished=True, ok=True)}),
    ],
    ids=str,
)
def test_what_lacks_for_the_first_one(wanted: Sequence[Lack], change: dict[str, Any]) -> None:
    """Without a certificate it is said exactly what is missing, and each has a command."""
    assessment = assess_certificate(replace(FACTS, certificate=None, rewritten={}, **change), NOW)
    assert wanted == [one.lack for one in assessment.missing]
    assert all(one.command for one in assessment.missing)


def test_a_verification_alone_is_no_certificate() -> None:
    """What stands in the way whatever was verified keeps it from being issued, rows written meanwhile included."""
    assert () == lacks_of(FACTS)
    during = replace(FACTS, rewritten={"public.users": 950.0}, dead_letters=1)
    assert {Lack.REWRITTEN, Lack.DEAD_LETTERS} == {one.lack for one in lacks_of(during)}


def test_only_what_rows_can_hold_is_a_tables_shape() -> None:
    """Columns and key count; indexes, foreign keys, triggers, size and place don't."""
    column = Column("id", 20, "bigint", "bigint")
    key = UniqueKey("pk", ("id",), primary=True)
    table = Table(TableName("crm", "users"), (column, Column("n", 23, "integer", "integer")), (key,), oid=1)
    same = replace(
        table,
        unique_keys=(key, UniqueKey("other", ("n",))),
        foreign_keys=(ForeignKey("f", ("n",), TableName("a", "b"), ("n",)),),
        triggers=(Trigger("t"),),
        rows_estimate=5,
        relfilenode=99,
    )
    assert shape_digest(table) == shape_digest(same)
    others = [
        replace(table, columns=(column,)),
        replace(table, columns=(column, Column("n", 20, "bigint", "bigint"))),
        replace(table, columns=(column, Column("n", 23, "integer", "integer", nullable=False))),
        replace(table, unique_keys=()),
        replace(table, oid=2),
    ]
    assert all(shape_digest(table) != shape_digest(other) for other in others)
