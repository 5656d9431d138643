"""The order in which a batch's writes are executed."""

from dataclasses import replace

import pytest

from replicator.planner import TableOrder, order_writes
from replicator.tables import ForeignKey, Table, TableName
from replicator.writes import Owner, Write, WriteAction
from tests.shapes import table

PARENTS = table("s.parents", "id bigint pk")
CHILDREN = table("s.children", "id bigint pk", "parent_id bigint", foreign={"parent_id": ("s.parents", "id")})
LEAVES = table("s.leaves", "id bigint pk", "child_id bigint", foreign={"child_id": ("s.children", "id")})
TABLES = (LEAVES, CHILDREN, PARENTS)


def shown(writes: list[Write]) -> list[tuple[str, str]]:
    return [(write.action.value, write.table.name.name) for write in writes]


def test_deletes_go_children_first_and_the_rest_parents_first() -> None:
    """As foreign keys demand, whatever the order of arrival."""
    writes = [
        Write(each, action)
        for each in (CHILDREN, LEAVES, PARENTS)
        for action in (WriteAction.UPSERT, WriteAction.DELETE)
    ]

    assert [
        ("delete", "leaves"),
        ("delete", "children"),
        ("delete", "parents"),
        ("upsert", "parents"),
        ("upsert", "children"),
        ("upsert", "leaves"),
    ] == shown(order_writes(writes, TABLES))


def test_within_a_table_room_is_made_before_it_is_taken() -> None:
    """What removes, then what updates, then what inserts."""
    last_to_first = [
        WriteAction.APPEND,
        WriteAction.MERGE,
        WriteAction.INSERT,
        WriteAction.UPSERT,
        WriteAction.UPDATE,
        WriteAction.REMOVE,
        WriteAction.DELETE,
        WriteAction.PRUNE,
    ]

    ordered = order_writes([Write(PARENTS, action) for action in last_to_first], TABLES)

    assert last_to_first[::-1] == [write.action for write in ordered]


def test_deletes_can_wait() -> None:
    """Under role origin a delete cascades: children that move away do so first."""
    writes = [
        Write(PARENTS, WriteAction.DELETE),
        Write(CHILDREN, WriteAction.DELETE),
        Write(CHILDREN, WriteAction.UPSERT),
    ]

    assert [("upsert", "children"), ("delete", "children"), ("delete", "parents")] == shown(
        order_writes(writes, TABLES, deletes_last=True)
    )


@pytest.mark.parametrize("deletes_last", [False, True])
def test_a_delete_that_asks_the_root_goes_before_it(*, deletes_last: bool) -> None:
    """Whose a child's rows are is known as long as their root is there, with a foreign key between them or without."""
    root = table("s.root", "id bigint pk", "r bigint", foreign={"r": ("s.parents", "id")})
    child = table("s.child", "root_id bigint pk")
    writes = [
        Write(root, WriteAction.DELETE, predicate="true"),
        Write(child, WriteAction.PRUNE, owner=Owner(root, ("id",), "true")),
    ]

    ordered = order_writes(writes, (PARENTS, child, root), deletes_last=deletes_last)

    assert [("prune", "child"), ("delete", "root")] == shown(ordered)


def test_truncates_are_one_statement() -> None:
    """TRUNCATE refuses a table that another refers to, unless both go together."""
    (write,) = order_writes([Write(each, WriteAction.TRUNCATE) for each in (PARENTS, CHILDREN, PARENTS)], TABLES)

    assert (PARENTS, (CHILDREN,)) == (write.table, write.also)


def circle(*, deferrable: str = "") -> tuple[Table, ...]:
    """Tables a to b to c to a, and d beside them."""

    def one(name: str, to: str) -> Table:
        key = ForeignKey(f"{name}_{to}", ("r",), TableName("s", to), ("id",), deferrable=name == deferrable)
        return replace(table(f"s.{name}", "id bigint pk", "r bigint null"), foreign_keys=(key,))

    return one("a", "b"), one("b", "c"), one("c", "a"), replace(one("d", "a"), foreign_keys=())


@pytest.mark.parametrize("deferrable", ["a", "b", "c"])
def test_circles_are_cut_where_the_check_can_wait(deferrable: str) -> None:
    """At the deferrable foreign key, wherever on the circle it is."""
    order = TableOrder.of(circle(deferrable=deferrable))

    assert [True] == [key.deferrable for key in order.cut]
    assert 4 == len(order.ranks)


def test_circles_without_a_deferrable_key_are_cut_and_named() -> None:
    """Such a circle needs the replica role: whoever asks is told which foreign key."""
    order = TableOrder.of(circle())

    assert [False] == [key.deferrable for key in order.cut]
    assert {"a", "b", "c", "d"} == {name.name for name in order.ranks}


def test_a_table_that_refers_to_itself_is_no_circle() -> None:
    """Its rows go in one statement, checked at its end."""
    tree = table("s.tree", "id bigint pk", "parent bigint null", foreign={"parent": ("s.tree", "id")})

    assert ((), {tree.name: 0}) == (TableOrder.of((tree,)).cut, TableOrder.of((tree,)).ranks)
