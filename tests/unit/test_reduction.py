"""Reduction: what is left of a batch equals what the batch would have done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, ChangeEvent, Op, Relation, Transaction, Values
from replicator.mapping import Mapping, Mappings, Side
from replicator.reduction import Reduced, Reducer, fill
from replicator.runs import Run
from replicator.tables import Column, Table, TableName
from tests.in_runs import in_runs

NAME = TableName("public", "things")
COLUMNS = ("id", "small", "big")
TABLE = Table(NAME, tuple(Column(name, 25, "text", "text") for name in COLUMNS))
KEYED = Mapping("public.things", (Side(TABLE, ("id",)),), (Side(TABLE, ("id",)),))
MULTISET = Mapping("public.things", (Side(TABLE, ()),), (Side(TABLE, ()),))
Row = tuple[bytes, bytes, bytes]
World = dict[bytes, Row]

keys = st.sampled_from([b"1", b"2", b"3", b"4"])
values = st.sampled_from([b"a", b"b", b"c"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), keys, values, values),
        st.tuples(st.just("update"), keys, values, st.one_of(st.none(), values)),
        st.tuples(st.just("move"), keys, keys, st.one_of(st.none(), values)),
        st.tuples(st.just("delete"), keys, values, values),
    ),
    max_size=14,
)


def relation(identity: str) -> Relation:
    """The shape of the table's rows."""
    return Relation(NAME, COLUMNS, (25, 25, 25), COLUMNS if identity == "f" else ("id",), identity)


def old_tuple(row: Row, identity: str) -> Values:
    """What the server sends of an old row."""
    return row if identity == "f" else (row[0], None, None)


def play(world: World, script: list[tuple[str, bytes, bytes, bytes | None]], identity: str) -> list[ChangeEvent]:
    """Do the steps that are possible to the world, and return the events that a server would send."""
    shape = relation(identity)
    events: list[ChangeEvent] = []
    transaction = Transaction(7, 100, 0.0)

    def emit(op: Op, before: Values | None, after: Values | None) -> None:
        events.append(ChangeEvent(op, shape, before, after, transaction, len(events) + 1))

    for what, key, second, third in script:
        row = world.get(key)
        if what == "insert" and row is None:
            world[key] = (key, second, third or b"")
            emit(Op.INSERT, None, world[key])
        elif what == "delete" and row is not None:
            del world[key]
            emit(Op.DELETE, old_tuple(row, identity), None)
        elif what == "update" and row is not None:
            new = (key, second, row[2] if third is None else third)
            sent: Values = (key, second, UNCHANGED if third is None else third)
            world[key] = new
            emit(Op.UPDATE, row if identity == "f" else None, sent)
        elif what == "move" and row is not None and second not in world:
            del world[key]
            world[second] = (second, row[1], row[2] if third is None else third)
            emit(Op.UPDATE, old_tuple(row, identity), (second, row[1], UNCHANGED if third is None else third))
    return events


def carry_out(target: dict[bytes, Values], reduced: list[Reduced], source: World) -> None:
    """What a target does with a reduced segment, fetches included."""
    for one in reduced:
        for run in one.runs:
            for row in run.rows:
                key = row[0]
                assert isinstance(key, bytes)
                if run.op is Op.DELETE:
                    target.pop(key, None)
                    continue
                assert run.op is Op.UPDATE or key not in target, "a plain insert of a row that is there"
                target[key] = row
        for (key,) in one.deletes:
            target.pop(key, None)
        for (key,), row in one.inserts.items():
            assert key not in target, "a plain insert of a row that is there"
            target[key] = row
        for (key,), row in one.upserts.items():
            target[key] = row
        for (key,), row in one.updates.items():
            assert key in target, "an update of a row that isn't there"
            target[key] = fill(row, target[key])
        for (key,) in one.fetches:
            target.pop(key, None)
            if key in source:
                target[key] = source[key]


@given(start=st.sets(keys), script=steps, identity=st.sampled_from("df"), runs=st.booleans())
def test_reduced_batch_equals_replay(
    start: set[bytes], script: list[tuple[str, bytes, bytes, bytes | None]], identity: str, runs: bool
) -> None:
    """Applying the reduced batch leaves what applying every event in order would leave, in runs or not."""
    world: World = {key: (key, b"s", b"B" + key) for key in start}
    target: dict[bytes, Values] = dict(world)
    events: Sequence[ChangeEvent] = play(world, script, identity)
    if runs:
        events = in_runs(events)

    carry_out(target, Reducer(Mappings((KEYED,))).reduce(events), world)

    assert world == target


@given(script=steps)
def test_full_identity_never_fetches(script: list[tuple[str, bytes, bytes, bytes | None]]) -> None:
    """With REPLICA IDENTITY FULL the old tuple carries what is unchanged, so nothing is read back."""
    world: World = {b"1": (b"1", b"s", b"B")}
    events = play(world, script, "f")

    (reduced,) = Reducer(Mappings((KEYED,))).reduce(events) or [Reduced(KEYED, relation("f"))]

    assert not reduced.fetches
    assert not reduced.updates


@given(script=steps)
def test_multiset_keeps_every_repetition(script: list[tuple[str, bytes, bytes, bytes | None]]) -> None:
    """A table without a key ends with exactly as many equal rows as the source has."""
    world: World = {b"1": (b"1", b"s", b"B")}
    rows: Counter[Values] = Counter(world.values())
    events = play(world, script, "f")

    for reduced in Reducer(Mappings((MULTISET,))).reduce(events):
        rows.update(reduced.adds)
        rows.subtract(reduced.removes)

    assert Counter(world.values()) == +rows
    assert not [row for row, count in rows.items() if count < 0]


many = st.lists(
    st.tuples(
        st.sampled_from(["insert", "update", "move", "delete"]),
        st.integers(0, 40).map(lambda number: b"%d" % number),
        st.integers(0, 40).map(lambda number: b"%d" % number),
        st.sampled_from([None, b"x", b"y"]),
    ),
    max_size=40,
)


@given(script=many.map(lambda script: sorted(script, key=lambda step: step[0])) | many)
def test_runs_and_single_events_equal_replay(script: list[tuple[str, bytes, bytes, bytes | None]]) -> None:
    """Runs whose keys are theirs alone are left whole beside single events of other keys; all else is replayed."""
    world: World = {b"%d" % number: (b"%d" % number, b"s", b"B") for number in range(0, 40, 2)}
    target: dict[bytes, Values] = dict(world)
    events = in_runs(play(world, script, "d"))

    carry_out(target, Reducer(Mappings((KEYED,))).reduce(events), world)

    assert world == target


def test_a_run_stays_whole_until_a_key_comes_again() -> None:
    """Single events of other keys don't take runs apart; one of theirs does, and so does a key that two runs have."""
    world: World = {b"9": (b"9", b"s", b"B")}
    inserts = [("insert", b"%d" % number, b"s", b"B") for number in range(6)]
    alone = [("move", b"9", b"8", None)]
    whole, touched, twice = (
        Reducer(Mappings((KEYED,))).reduce(in_runs(play(dict(world), [*inserts, *more], "d")))
        for more in (alone, [("move", b"3", b"8", None)], [("delete", b"%d" % number, b"", b"") for number in (1, 2)])
    )

    assert ([5], 1) == ([len(run) for run in whole[0].runs], len(whole[0].inserts))
    assert [] == touched[0].runs == twice[0].runs


def test_a_delete_without_its_key_stops_in_a_run_too() -> None:
    """An old row that doesn't carry the mapping's key is an error, however many come at once."""
    shape = relation("d")
    gone = [ChangeEvent(Op.DELETE, shape, (None, b"s", None), None, Transaction(1, 1, 0.0), at) for at in (1, 2)]

    with pytest.raises(ReplicatorError) as refused:
        Reducer(Mappings((KEYED,))).reduce(in_runs(gone))

    assert refused.value.kind is ErrorKind.SCHEMA


def test_keys_of_two_columns_come_again() -> None:
    """A key of several columns that two runs have, or a run and an event, takes the runs apart."""
    side = Side(TABLE, ("id", "small"))
    mappings = Mappings((Mapping("public.things", (side,), (side,)),))
    shape, transaction = relation("f"), Transaction(1, 1, 0.0)

    def runs(*given: tuple[Op, bytes, bytes]) -> list[Run]:
        rows = [(op, (key, small, b"B")) for op, key, small in given]
        events = [
            ChangeEvent(
                op,
                shape,
                row if op is Op.DELETE else None,
                None if op is Op.DELETE else row,
                transaction,
                at,
            )
            for at, (op, row) in enumerate(rows, 1)
        ]
        (reduced,) = Reducer(mappings).reduce(in_runs(events))
        return reduced.runs

    three = [(Op.INSERT, b"1", b"a"), (Op.INSERT, b"1", b"b"), (Op.INSERT, b"2", b"a")]
    assert 1 == len(runs(*three))
    assert 2 == len(runs(*three, (Op.DELETE, b"2", b"b"), (Op.DELETE, b"3", b"b")))
    assert [] == runs(*three, (Op.DELETE, b"2", b"b"), (Op.DELETE, b"1", b"b"))
    assert 1 == len(runs(*three, (Op.DELETE, b"2", b"b")))
    assert [] == runs(*three, (Op.DELETE, b"1", b"a"))


def test_three_rows_exchange_keys_and_keep_their_big_columns() -> None:
    """Rows that exchange keys in one transaction are fetched: UNCHANGED belongs to the row, not to its key."""
    world: World = {key: (key, b"s", b"B" + key) for key in (b"1", b"2", b"3")}
    target: dict[bytes, Values] = dict(world)
    script: list[tuple[str, bytes, bytes, bytes | None]] = [
        ("move", b"1", b"9", None),
        ("move", b"2", b"1", None),
        ("move", b"3", b"2", None),
        ("move", b"9", b"3", None),
    ]
    events = play(world, script, "d")
    (reduced,) = Reducer(Mappings((KEYED,))).reduce(events)

    carry_out(target, [reduced], world)

    assert world == target
    assert {(b"1",), (b"2",), (b"3",)} == reduced.fetches
    assert {7} == reduced.xids


def test_truncate_is_a_barrier() -> None:
    """What comes before a TRUNCATE and what comes after it are reduced apart."""
    shape = relation("d")
    transaction = Transaction(1, 1, 0.0)
    row = (b"1", b"s", b"B")
    events = [
        ChangeEvent(Op.INSERT, shape, None, row, transaction, 1),
        ChangeEvent(Op.TRUNCATE, shape, None, None, transaction, 2),
        ChangeEvent(Op.INSERT, shape, None, row, transaction, 3),
    ]

    before, barrier, after = Reducer(Mappings((KEYED,))).split(events)

    assert [NAME] == barrier.truncated
    assert {(b"1",)} == set(before.reduced[0].inserts) == set(after.reduced[0].inserts)


def test_new_shape_is_a_barrier() -> None:
    """Rows of two shapes of one table are never mixed in one statement."""
    transaction = Transaction(1, 1, 0.0)
    wider = Relation(NAME, (*COLUMNS, "extra"), (25, 25, 25, 25), ("id",), "d")
    events = [
        ChangeEvent(Op.INSERT, relation("d"), None, (b"1", b"s", b"B"), transaction, 1),
        ChangeEvent(Op.INSERT, wider, None, (b"2", b"s", b"B", b"x"), transaction, 2),
    ]

    segments = Reducer(Mappings((KEYED,))).split(events)

    assert [COLUMNS, wider.columns] == [segment.reduced[0].relation.columns for segment in segments]


def test_delete_without_its_key_says_what_to_do() -> None:
    """An old row that lacks the key stops with the statement that mends it."""
    shape = Relation(NAME, COLUMNS, (25, 25, 25), (), "n")
    event = ChangeEvent(Op.DELETE, shape, (None, None, None), None, Transaction(1, 1, 0.0), 1)

    with pytest.raises(ReplicatorError, match="without its key") as caught:
        Reducer(Mappings((KEYED,))).reduce([event])

    assert caught.value.kind is ErrorKind.SCHEMA
    assert "REPLICA IDENTITY" in (caught.value.hint or "")
