"""Why a row is wrong: decisions over facts."""

from dataclasses import replace

import pytest

from replicator.authorship import Writer
from replicator.engine.verify.brackets import NOTHING, Look
from replicator.engine.verify.causes import Facts, Transforms, cause_of, rounding, why_undecided
from replicator.tables import Column
from replicator.verification import Cause, Kind

OURS = Writer(700, 1_000.0, "replicator/shop/forward/0", ours=True)
THEIRS = Writer(701, 2_000.0, None, ours=False)
UNTOLD = Writer(702, unknown_because="track_commit_timestamp is off on the upgraded side")
FACTS = Facts(Kind.DIFFERENT, ("price",))
SAME = Transforms("a", "a")
CHANGED = Transforms("b", "b", "a", 1_500.0)


@pytest.mark.parametrize(
    "facts, cause",
    [
        (FACTS, Cause.UNKNOWN),
        (replace(FACTS, letter=7, writer=THEIRS), Cause.DEAD_LETTER),
        (replace(FACTS, writer=THEIRS, transforms=CHANGED), Cause.OUTSIDE_WRITE),
        (replace(FACTS, writer=UNTOLD), Cause.UNKNOWN),
        (replace(FACTS, writer=OURS), Cause.UNKNOWN),
        (replace(FACTS, writer=OURS, triggers=("audit",)), Cause.OUTSIDE_WRITE),
        (replace(FACTS, writer=UNTOLD, triggers=("audit",)), Cause.UNKNOWN),
        (replace(FACTS, writer=OURS, transforms=SAME), Cause.UNKNOWN),
        (replace(FACTS, writer=OURS, transforms=CHANGED), Cause.TRANSFORM_CHANGED),
        (replace(FACTS, writer=replace(OURS, committed_at=1_600.0), transforms=CHANGED), Cause.UNKNOWN),
        (replace(FACTS, writer=UNTOLD, transforms=CHANGED), Cause.TRANSFORM_CHANGED),
        (replace(FACTS, transforms=Transforms("new", "old")), Cause.TRANSFORM_CHANGED),
        (replace(FACTS, transforms=Transforms("new")), Cause.UNKNOWN),
        (replace(FACTS, rounded={"price": "real"}), Cause.ROUNDING),
        (replace(FACTS, columns=("price", "name"), rounded={"price": "real"}), Cause.UNKNOWN),
        (replace(FACTS, kind=Kind.MISSING, columns=()), Cause.UNKNOWN),
    ],
)
def test_only_what_is_proven_is_a_cause(facts: Facts, cause: Cause) -> None:
    """The order of proof: a letter, somebody else's commit, another transform, rounding, a trigger; else unknown."""
    assert cause is cause_of(facts)[0]


def test_evidence_says_what_proves_it() -> None:
    """Which transaction and when, whose, which trigger, which digests; or why it can't be told."""
    assert {
        "target_xid": 701,
        "target_committed_at": "1970-01-01T00:33:20+00:00",
        "written_by": "another session",
    } == cause_of(replace(FACTS, writer=THEIRS))[1]
    assert ["audit"] == cause_of(replace(FACTS, writer=OURS, triggers=("audit",)))[1]["triggers"]
    assert {"target_xid": 702, "writer": UNTOLD.unknown_because} == cause_of(replace(FACTS, writer=UNTOLD))[1]
    changed = cause_of(replace(FACTS, transforms=CHANGED))[1]
    assert ("a", "b") == (changed["written_by"], changed["compared_by"])


NUMERIC = Column("c", 1700, "numeric", "numeric")
MONEY = Column("c", 1700, "numeric(10,2)", "numeric", typmod=655_366, base_typmod=655_366)
REAL = Column("c", 700, "real", "real")
DOUBLE = Column("c", 701, "double precision", "double precision")
MOMENT = Column("c", 1184, "timestamp with time zone", "timestamp with time zone")
SECONDS = Column("c", 1114, "timestamp(0)", "timestamp without time zone", typmod=0, base_typmod=0)
TEXT = Column("c", 25, "text", "text")


@pytest.mark.parametrize(
    "column, expected, found, reason",
    [
        (MONEY, b"1.239", b"1.23", "numeric(10,2)"),
        (MONEY, b"1.24", b"1.23", None),
        (MONEY, b"1.23", b"1.32", None),
        (NUMERIC, b"0.30000000000000000001", b"0.3", "a float"),
        (NUMERIC, b"0.3", b"0.30000000000000004", "a float"),
        (NUMERIC, b"0.3", b"0.31", None),
        (NUMERIC, b"0", b"1e-30", None),
        (NUMERIC, b"NaN", b"1", None),
        (REAL, b"1.2345678", b"1.2345679", "real"),
        (REAL, b"1.2345", b"1.2346", None),
        (DOUBLE, b"0.1", b"0.10000000000000002", "double precision"),
        (DOUBLE, b"100", b"101", None),
        (MOMENT, b"2024-01-01 00:00:00.123456+00", b"2024-01-01 00:00:00.123+00", "milliseconds"),
        (MOMENT, b"2024-01-01 00:00:00.123456+00", b"2024-01-01 00:00:00+00", "whole seconds"),
        (MOMENT, b"2024-01-01 00:00:00+00", b"2024-01-01 01:00:00+00", None),
        (MOMENT, b"2024-01-01 00:00:00+00", b"2024-01-01 00:00:01+00", None),
        (MOMENT, b"infinity", b"2024-01-01 00:00:01+00", None),
        (SECONDS, b"2024-01-01 00:00:00.7", b"2024-01-01 00:00:00", "timestamp(0)"),
        (TEXT, b"abc", b"ab", None),
        (NUMERIC, None, b"1", None),
        (NUMERIC, b"1", None, None),
    ],
)
def test_rounding_is_less_than_a_unit(column: Column, expected: bytes, found: bytes, reason: str | None) -> None:
    """What a column can't hold is less than one unit of its last digit; one whole unit is another value."""
    assert reason == rounding(column, expected, found)


def look(before: bytes = NOTHING, after: bytes = NOTHING, *, held: bool = False) -> Look:
    return Look(before, NOTHING, after, 1, 2, 3, (), held=held)


def test_what_stays_undecided_is_on_its_way_or_not() -> None:
    """An aggregate that changes in every look, or that the feed says it isn't done with, is late; else nobody knows."""
    assert Cause.LAG is why_undecided(look(b"a", b"b"))
    assert Cause.LAG is why_undecided(look(held=True))
    assert Cause.UNKNOWN is why_undecided(look())
