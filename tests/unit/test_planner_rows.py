"""Plans for rows that keep their shape, for tables without a key, and for TRUNCATE."""

from dataclasses import replace
from typing import Any

import pytest

from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Relation, Values
from replicator.mapping import KeyMapping, Mapping, Mappings, Outcome, Reference, Side, SourceAggregate
from replicator.planner import plan_multiset, plan_rows, plan_truncate
from replicator.tables import UniqueKey
from replicator.writes import Owner, Translation, Write, WriteAction
from tests.shapes import table

OLD = table("public.things", "id bigint pk", "small text", "legacy text", "big text null")
NEW = table("ref.things", "id bigint pk", "tiny text", "big text null")
RELATION = Relation(OLD.name, OLD.column_names)
RENAMED = Mapping(
    "public.things",
    (Side(OLD, ("id",)),),
    (Side(NEW, ("id",)),),
    columns={"id": "id", "small": "tiny", "big": "big"},
)
SAME = Mapping(
    "public.things", (Side(OLD, ("id",)),), (Side(OLD, ("id",)),), columns={name: name for name in OLD.column_names}
)
KEYS = KeyMapping("public.things", forward=True)
OTHER = KeyMapping("public.others", forward=True)


def plan(mapping: Mapping, relation: Relation = RELATION, **rows: list[Values]) -> list[Write]:
    """A plan of the kinds of rows that are named."""
    kinds: dict[str, Any] = {"inserts": [], "upserts": [], "updates": [], "deletes": []} | rows
    return plan_rows(mapping, relation, **kinds)


def summary(writes: list[Write]) -> list[tuple[str, tuple[str, ...], list[Values]]]:
    return [(write.action.value, write.columns, list(write.rows)) for write in writes]


def test_rows_are_projected_to_the_targets_columns() -> None:
    """Columns are renamed and dropped by position; one write for each kind of row."""
    writes = plan(
        RENAMED,
        inserts=[(b"1", b"a", b"x", None)],
        upserts=[(b"2", b"b", b"x", b"B")],
        deletes=[(b"3",)],
    )

    assert [
        ("delete", ("id",), [(b"3",)]),
        ("upsert", ("id", "tiny", "big"), [(b"2", b"b", b"B")]),
        ("insert", ("id", "tiny", "big"), [(b"1", b"a", None)]),
    ] == summary(writes)
    assert {("id",)} == {write.key for write in writes}
    assert {"public.things"} == {write.mapping for write in writes}


def test_rows_that_pass_whole_are_not_touched() -> None:
    """Where every column passes in order, the very same list is written: no work a row."""
    rows: list[Values] = [(b"1", b"a", b"x", None)]

    (write,) = plan(SAME, upserts=rows)

    assert write.rows is rows


def test_one_column_is_still_a_row() -> None:
    """A projection to one column gives tuples, not values."""
    keys = replace(RENAMED, columns={"id": "id"})

    assert [("upsert", ("id",), [(b"1",)])] == summary(plan(keys, upserts=[(b"1", b"a", b"x", None)]))


def test_unchanged_values_are_left_out_of_updates() -> None:
    """One UPDATE a set of columns that came."""
    writes = plan(
        RENAMED,
        updates=[
            (b"1", b"a", b"x", UNCHANGED),
            (b"2", UNCHANGED, UNCHANGED, UNCHANGED),
            (b"3", b"c", UNCHANGED, UNCHANGED),
        ],
    )

    assert [
        ("update", ("id", "tiny"), [(b"1", b"a"), (b"3", b"c")]),
        ("update", ("id",), [(b"2",)]),
    ] == summary(writes)


def test_a_column_that_did_not_come_is_not_written() -> None:
    """Rows of an older shape leave the target's column as it is; rows without a key column stop the feed."""
    (upsert,) = plan(RENAMED, Relation(OLD.name, ("id", "small", "legacy")), upserts=[(b"1", b"a", b"x")])

    assert ("id", "tiny") == upsert.columns
    with pytest.raises(ReplicatorError, match=r"lack a column of the key \(id\)") as caught:
        plan(RENAMED, Relation(OLD.name, ("small",)), upserts=[(b"a",)])
    assert ErrorKind.SCHEMA is caught.value.kind


def test_a_key_that_no_index_decides_is_never_inserted_blindly() -> None:
    """A plain INSERT under a deferrable key would pass unnoticed under the replica role."""
    deferrable = replace(NEW, unique_keys=(UniqueKey("k", ("id",), primary=True, deferrable=True),))
    mapping = replace(RENAMED, targets=(Side(deferrable, ("id",)),))

    assert ["upsert"] == [write.action.value for write in plan(mapping, inserts=[(b"1", b"a", b"x", None)])]


def test_translated_keys_are_marked_by_position() -> None:
    """The aggregate's own key and references, in rows and in deletes."""
    mapping = replace(RENAMED, key_map=KEYS, references=(Reference(("tiny",), OTHER),))
    row: Values = (b"1", b"a", b"x", None)

    delete, upsert = plan(mapping, upserts=[row], deletes=[(b"2",)])
    (update,) = plan(mapping, updates=[(b"1", UNCHANGED, b"x", b"B")])

    assert (Translation((0,), KEYS),) == delete.translations
    assert (Translation((0,), KEYS), Translation((1,), OTHER)) == upsert.translations
    assert (Translation((0,), KEYS),) == update.translations


def test_half_a_reference_is_refused() -> None:
    """A composite key of which one column is UNCHANGED can't be translated."""
    mapping = replace(RENAMED, references=(Reference(("tiny", "big"), OTHER),))

    with pytest.raises(ReplicatorError, match="lacks big"):
        plan(mapping, updates=[(b"1", b"a", b"x", UNCHANGED)])


def test_deletes_stay_within_what_is_owned() -> None:
    """A row that is another mapping's survives the delete of its key here."""
    mapping = replace(RENAMED, owns="tiny = 'mine'")

    (delete,) = plan(mapping, deletes=[(b"2",)])

    assert "tiny = 'mine'" == delete.predicate


def multiset_function(source: SourceAggregate) -> Outcome:
    """One row to two."""
    (row,) = source.tables[0].rows
    return Outcome((), [[{"id": row[0], "tiny": row[1]}, {"tiny": b"second", "id": row[0]}]])


def test_rows_without_a_key_are_removed_before_they_are_appended() -> None:
    """An update of a row without a key is both; removal first, or it might take the new row."""
    mapping = replace(SAME, sources=(Side(OLD, ()),), targets=(Side(OLD, ()),))
    row: Values = (b"1", b"a", b"x", None)

    writes = plan_multiset(mapping, RELATION, adds=[row, row], removes=[row])

    assert [("remove", OLD.column_names, [row]), ("append", OLD.column_names, [row, row])] == summary(writes)


def test_multisets_are_transformed_row_by_row() -> None:
    """A transform runs on each row, in both directions of a change; column order doesn't matter."""
    mapping = replace(RENAMED, sources=(Side(OLD, ()),), targets=(Side(NEW, ()),), function=multiset_function)
    row: Values = (b"1", b"a", b"x", None)

    writes = plan_multiset(mapping, RELATION, adds=[row], removes=[])

    assert [("append", ("id", "tiny"), [(b"1", b"a"), (b"1", b"second")])] == summary(writes)


CHILD = table("ref.parts", "id bigint pk default", "thing_id bigint")


def test_truncate_empties_what_the_mapping_fills() -> None:
    """Children first; a table of which a part is owned is cleared of that part only."""
    mapping = replace(RENAMED, targets=(Side(NEW, ("id",)), Side(CHILD, ("thing_id",))))
    whole = plan_truncate(mapping, Mappings((mapping,)))
    part = plan_truncate(replace(mapping, owns="tiny = 'mine'"), Mappings((mapping,)))

    assert [(CHILD.name, WriteAction.TRUNCATE), (NEW.name, WriteAction.TRUNCATE)] == [
        (write.table.name, write.action) for write in whole
    ]
    assert [
        (CHILD.name, WriteAction.CLEAR, None, Owner(NEW, ("id",), "tiny = 'mine'")),
        (NEW.name, WriteAction.CLEAR, "tiny = 'mine'", None),
    ] == [(write.table.name, write.action, write.predicate, write.owner) for write in part]


def test_truncate_of_a_shared_table_stops() -> None:
    """Where nothing says whose rows are whose, nothing is emptied."""
    other = replace(RENAMED, name="public.others")

    with pytest.raises(ReplicatorError, match=r"also holds rows of public\.others") as caught:
        plan_truncate(RENAMED, Mappings((RENAMED, other)))

    assert ErrorKind.CONFIG is caught.value.kind
