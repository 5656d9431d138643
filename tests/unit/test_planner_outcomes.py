"""Plans for transformed aggregates."""

from dataclasses import replace
from typing import Any

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED
from replicator.mapping import KeyMapping, Mapping, Outcome, Reference, Side, TargetRow
from replicator.planner import plan_outcomes
from replicator.tables import Table
from replicator.writes import Owner, Translation, Write
from tests.shapes import table

OLD = table("public.users", "id bigint pk", "role text")
USERS = table("crm.users", "id bigint pk", "name text", "note text null")
# Matched by its unique key, by all columns, and by its primary key.
GRANTS = table("crm.grants", "id bigint pk default", "user_id bigint", "what text", unique=(("user_id", "what"),))
TAGS = table("crm.tags", "id bigint pk default", "user_id bigint", "tag text null")
PROFILES = table("crm.profiles", "user_id bigint pk", "bio text null")
KEYS = KeyMapping("public.users", forward=True)


def mapping(*children: Table, **changes: Any) -> Mapping:
    """A mapping of users to users and children of theirs."""
    targets = (Side(USERS, ("id",)), *(Side(child, ("user_id",)) for child in children))
    return replace(
        Mapping("public.users", (Side(OLD, ("id",)),), targets, function=lambda _: Outcome((), []), label="user"),
        **changes,
    )


def user(number: int, **values: Any) -> TargetRow:
    return {"id": b"%d" % number, "name": b"n", **values}


def outcome(number: int, *rows: list[TargetRow]) -> Outcome:
    return Outcome((b"%d" % number,), list(rows))


def grant(number: int, what: bytes, **values: Any) -> TargetRow:
    return {"user_id": b"%d" % number, "what": what, **values}


def tag(number: int, text: bytes | None, **values: Any) -> TargetRow:
    return {"user_id": b"%d" % number, "tag": text, **values}


def shown(write: Write) -> tuple[Any, ...]:
    """What matters of a write: action, table, columns, key, rows; and of a PRUNE its aggregates."""
    facts = (write.action.value, write.table.name.name, write.columns, write.key, list(write.rows))
    return (*facts, list(write.keys)) if write.action.value == "prune" else facts


def test_one_row_is_upserted_updated_or_deleted() -> None:
    """By what it gives; the column order of a row doesn't matter, its column set does."""
    writes = plan_outcomes(
        mapping(),
        [
            outcome(1, [user(1)]),
            outcome(2, [{"name": b"m", "id": b"2"}]),
            outcome(3, [user(3, note=b"x")]),
            outcome(4, [user(4, note=UNCHANGED)]),
            outcome(5, []),
        ],
    )

    assert [
        ("delete", "users", ("id",), ("id",), [(b"5",)]),
        ("upsert", "users", ("id", "name"), ("id",), [(b"1", b"n"), (b"2", b"m")]),
        ("upsert", "users", ("id", "name", "note"), ("id",), [(b"3", b"n", b"x")]),
        ("update", "users", ("id", "name"), ("id",), [(b"4", b"n")]),
    ] == [shown(write) for write in writes]


def test_fresh_aggregates_are_inserted() -> None:
    """Nothing of them is on the target: no upsert, and nothing to prune or delete."""
    writes = plan_outcomes(
        mapping(GRANTS, TAGS),
        [outcome(1, [user(1)], [grant(1, b"r")], [tag(1, b"t")]), outcome(2, [], [], [])],
        fresh={(b"1",), (b"2",)},
    )

    assert [("insert", "users"), ("insert", "grants"), ("append", "tags")] == [
        (write.action.value, write.table.name.name) for write in writes
    ]


def test_children_are_pruned_then_merged_by_a_unique_key() -> None:
    """The surrogate key that the transform doesn't give stays as it is."""
    writes = plan_outcomes(
        mapping(GRANTS),
        [outcome(1, [user(1)], [grant(1, b"r"), grant(1, b"w")]), outcome(2, [user(2)], []), outcome(3, [], [])],
    )

    match = ("user_id", "what")
    rows = [(b"1", b"r"), (b"1", b"w")]
    assert [
        ("prune", "grants", match, match, rows, [(b"1",), (b"2",), (b"3",)]),
        ("merge", "grants", match, match, rows),
    ] == [shown(write) for write in writes if write.table is GRANTS]


def test_children_with_a_primary_key_are_matched_by_it() -> None:
    """Whatever else they give; a row that moved to another aggregate is kept by the prune."""
    writes = plan_outcomes(mapping(GRANTS), [outcome(1, [user(1)], [grant(1, b"r", id=b"7")])])

    assert [("prune", ("id",), [(b"7",)]), ("merge", ("id",), [(b"7", b"1", b"r")])] == [
        (write.action.value, write.key, list(write.rows)) for write in writes if write.table is GRANTS
    ]


def test_children_without_a_key_are_matched_as_often_as_given() -> None:
    """By all columns that they give."""
    writes = plan_outcomes(mapping(TAGS), [outcome(1, [user(1)], [tag(1, b"t"), tag(1, b"t"), tag(1, None)])])

    match = ("user_id", "tag")
    rows = [(b"1", b"t"), (b"1", b"t"), (b"1", None)]
    assert [("prune", match, match, rows, True), ("merge", match, match, rows, True)] == [
        (write.action.value, write.columns, write.key, list(write.rows), write.multiset)
        for write in writes
        if write.table is TAGS
    ]


def test_a_child_of_one_row_is_a_row_by_key() -> None:
    """A table whose key is the aggregate's holds one row of it: upsert, or delete where it wasn't given."""
    writes = plan_outcomes(
        mapping(PROFILES),
        [outcome(1, [user(1)], [{"user_id": b"1", "bio": b"b"}]), outcome(2, [user(2)], []), outcome(3, [], [])],
    )

    assert [
        ("delete", "profiles", ("user_id",), ("user_id",), [(b"3",)]),
        ("delete", "profiles", ("user_id",), ("user_id",), [(b"2",)]),
        ("upsert", "profiles", ("user_id", "bio"), ("user_id",), [(b"1", b"b")]),
    ] == [shown(write) for write in writes if write.table is PROFILES]


def test_the_last_aggregate_that_gives_a_child_has_it() -> None:
    """As if they were written one after another."""
    first, second = grant(1, b"r", id=b"7"), grant(2, b"r", id=b"7")

    writes = plan_outcomes(mapping(GRANTS), [outcome(1, [user(1)], [first]), outcome(2, [user(2)], [second])])

    (merge,) = [write for write in writes if write.action.value == "merge"]
    assert [(b"7", b"2", b"r")] == list(merge.rows)


def test_keys_are_the_engines() -> None:
    """With a key map the key columns of root and children hold the source's key, to be translated; PRUNE's too."""
    keyed = mapping(GRANTS, key_map=KEYS)

    writes = plan_outcomes(
        keyed, [outcome(1, [{"name": b"n"}], [{"what": b"r"}]), outcome(2, [{"name": b"m"}], []), outcome(3, [], [])]
    )

    assert [
        ("delete", "users", ("id",), ("id",), [(b"3",)]),
        ("upsert", "users", ("id", "name"), ("id",), [(b"1", b"n"), (b"2", b"m")]),
        ("prune", "grants", ("user_id", "what"), ("user_id", "what"), [(b"1", b"r")], [(b"1",), (b"2",), (b"3",)]),
        ("merge", "grants", ("user_id", "what"), ("user_id", "what"), [(b"1", b"r")]),
    ] == [shown(write) for write in writes]
    assert [(Translation((0,), KEYS),)] * 4 == [write.translations for write in writes]
    assert [(), (), (Translation((0,), KEYS),), ()] == [write.scope_translations for write in writes]


def test_references_are_translated_where_they_stand() -> None:
    """A reference names its table, or any; one over the aggregate's own key is translated with it, once."""
    other = KeyMapping("public.others", forward=True)
    references = (Reference(("note",), other, USERS.name), Reference(("user_id",), KEYS), Reference(("tag",), other))

    writes = plan_outcomes(
        mapping(TAGS, key_map=KEYS, references=references),
        [outcome(1, [{"name": b"n", "note": b"5"}], [{"tag": b"6"}])],
    )

    assert {
        "upsert": (Translation((0,), KEYS), Translation((2,), other)),
        "prune": (Translation((0,), KEYS), Translation((1,), other)),
        "merge": (Translation((0,), KEYS), Translation((1,), other)),
    } == {write.action.value: write.translations for write in writes}


def test_prune_carries_whole_keys() -> None:
    """Rows matched by half of a translated reference carry the other half, so that it can be translated."""
    pair = table("crm.pairs", "user_id bigint", "a bigint", "b bigint", unique=(("user_id", "a"),))
    reference = Reference(("a", "b"), KeyMapping("public.others", forward=True))

    (prune, _) = [
        write
        for write in plan_outcomes(
            mapping(pair, references=(reference,)),
            [outcome(1, [user(1)], [{"user_id": b"1", "a": b"2", "b": b"3"}])],
        )
        if write.table is pair
    ]

    assert (("user_id", "a", "b"), ("user_id", "a")) == (prune.columns, prune.key)


def test_what_is_not_owned_is_not_deleted() -> None:
    """A root by the predicate; children of an aggregate that is gone by their root's."""
    owned = mapping(TAGS, owns="name = 'mine'")
    owner = Owner(USERS, ("id",), "name = 'mine'")

    writes = plan_outcomes(owned, [outcome(1, [user(1)], []), outcome(2, [], [])])

    assert [
        ("delete", "name = 'mine'", None, []),
        ("upsert", None, None, []),
        ("prune", None, None, [(b"1",)]),
        ("prune", None, owner, [(b"2",)]),
    ] == [(write.action.value, write.predicate, write.owner, list(write.keys)) for write in writes]


@pytest.mark.parametrize(
    "children, given, message",
    [
        ((), outcome(1, [user(1), user(1)]), "2 rows, but a key has one row there"),
        ((), outcome(1, [{"name": b"n"}]), "without a value for id"),
        ((GRANTS,), outcome(1, [user(1)], [grant(1, b"r"), grant(1, b"r")]), r"two rows with the same \(user_id, what"),
        ((GRANTS,), outcome(1, [user(1)], [{"what": b"r"}]), "without a value for user_id"),
        ((TAGS,), outcome(1, [user(1)], [tag(1, b"t"), {"user_id": b"1"}]), r"differ in their columns \(tag\)"),
        ((TAGS,), outcome(1, [user(1)], [tag(1, b"t", note=UNCHANGED)]), r"differ in their columns \(note\)"),
    ],
)
def test_rows_that_cannot_be_told_apart_are_the_transforms_fault(
    children: tuple[Table, ...], given: Outcome, message: str
) -> None:
    """The error names function, table and key."""
    with pytest.raises(ReplicatorError, match=message) as caught:
        plan_outcomes(mapping(*children), [given])

    assert ErrorKind.TRANSFORM is caught.value.kind
    assert ("1",) == caught.value.key
    assert caught.value.message.startswith("user gave crm.")
