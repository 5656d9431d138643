"""The SQL of writes, against a golden file. REPLICATOR_GOLDEN=write writes the file anew."""

import os
from dataclasses import replace
from pathlib import Path

from replicator.postgres.statements import statement_of
from replicator.tables import Column, Table, TableName, UniqueKey
from replicator.writes import Owner, Write, WriteAction
from tests.shapes import table

GOLDEN = Path(__file__).parents[1] / "golden" / "statements.sql"

ORDERS = table("crm.orders", "id bigint pk", "note text null", "total numeric(10,2)", unique=(("note",),))
LINES = table("crm.lines", "id bigint pk default", "order_id bigint", "sku varchar(3)", unique=(("order_id", "sku"),))
EVENTS = table("crm.events", "at timestamptz null", "body text null")
PARTITIONED = replace(ORDERS, kind="p")
ODD = Table(
    TableName("My schema", 'we"ird.Table'),
    (
        Column("Order", 20, "bigint", "bigint", identity="a"),
        Column("v1", 90_001, "public.citext", "public.citext", operator_schema="public", canonical=False),
        Column('a"b', 1042, "character(3)", "bpchar", typmod=7),
        Column("doc", 114, "json", "json", comparable=False, operator_schema=""),
        Column("100%", 25, "text", "text", generated="s"),
    ),
    unique_keys=(UniqueKey("odd_key", ("v1",), primary=True),),
)
DEFERRABLE = replace(ORDERS, unique_keys=(UniqueKey("orders_pkey", ("id",), primary=True, deferrable=True),))
ROW = ((b"1", b"a", b"2"),)

CASES = {
    "insert": Write(ORDERS, WriteAction.INSERT, columns=ORDERS.column_names, key=("id",), rows=ROW),
    "upsert": Write(ORDERS, WriteAction.UPSERT, columns=ORDERS.column_names, key=("id",), rows=ROW),
    "upsert of nothing but the key": Write(ORDERS, WriteAction.UPSERT, columns=("id",), key=("id",), rows=ROW),
    "upsert into a partitioned table": Write(
        PARTITIONED, WriteAction.UPSERT, columns=("id", "note"), key=("id",), rows=ROW
    ),
    "upsert without an arbiter": Write(
        DEFERRABLE, WriteAction.UPSERT, columns=("id", "note", "total"), key=("id",), rows=ROW
    ),
    "upsert with an identity column": Write(
        ODD, WriteAction.UPSERT, columns=("Order", "v1", 'a"b', "doc"), key=("v1",), rows=ROW
    ),
    "update": Write(ORDERS, WriteAction.UPDATE, columns=("id", "total"), key=("id",), rows=ROW),
    "update of a partitioned table": Write(
        PARTITIONED, WriteAction.UPDATE, columns=("id", "total"), key=("id",), rows=ROW
    ),
    "update of nothing": Write(ORDERS, WriteAction.UPDATE, columns=("id",), key=("id",), rows=ROW),
    "update by citext": Write(ODD, WriteAction.UPDATE, columns=("v1", "Order", "doc"), key=("v1",), rows=ROW),
    "delete": Write(ORDERS, WriteAction.DELETE, columns=("id",), key=("id",), rows=ROW),
    "delete of owned rows": Write(
        ORDERS, WriteAction.DELETE, columns=("id",), key=("id",), rows=ROW, predicate="note IS NULL"
    ),
    "delete of a child": Write(
        LINES,
        WriteAction.DELETE,
        columns=("order_id",),
        key=("order_id",),
        scope=("order_id",),
        rows=ROW,
        owner=Owner(ORDERS, ("id",), "note IS NULL"),
    ),
    "prune by key": Write(
        LINES,
        WriteAction.PRUNE,
        columns=("order_id", "sku"),
        key=("order_id", "sku"),
        scope=("order_id",),
        keys=((b"1",),),
        rows=ROW,
    ),
    "prune all": Write(LINES, WriteAction.PRUNE, scope=("order_id",), keys=((b"1",),)),
    "prune a multiset": Write(
        ODD,
        WriteAction.PRUNE,
        columns=("v1", "doc"),
        key=("v1", "doc"),
        scope=("v1",),
        keys=((b"1",),),
        rows=ROW,
        multiset=True,
    ),
    "merge by key": Write(
        LINES, WriteAction.MERGE, columns=("order_id", "sku"), key=("order_id", "sku"), scope=("order_id",), rows=ROW
    ),
    "merge a multiset": Write(
        ODD,
        WriteAction.MERGE,
        columns=("v1", "doc"),
        key=("v1", "doc"),
        scope=("v1",),
        rows=ROW,
        multiset=True,
    ),
    "append": Write(EVENTS, WriteAction.APPEND, columns=("at", "body"), rows=ROW),
    "remove": Write(EVENTS, WriteAction.REMOVE, columns=("at", "body"), rows=ROW),
    "truncate": Write(ORDERS, WriteAction.TRUNCATE, also=(LINES, PARTITIONED)),
    "clear": Write(ORDERS, WriteAction.CLEAR),
    "clear owned rows": Write(ORDERS, WriteAction.CLEAR, predicate="note IS NULL"),
    "clear a child": Write(LINES, WriteAction.CLEAR, scope=("order_id",), owner=Owner(ORDERS, ("id",), "note IS NULL")),
}


def rendered() -> str:
    """Every case, with what the executor must know of it."""
    parts = []
    for name, write in CASES.items():
        statement = statement_of(write)
        marks = [mark for mark in ("sets", "ordinals", "all_rows") if getattr(statement, mark)]
        title = f"-- {name}" + (f" ({', '.join(marks)})" if marks else "")
        parts.append(f"{title}\n{statement.text.decode()};\n")
    return "\n".join(parts)


def test_statements_are_the_golden_ones() -> None:
    """Nobody changes the SQL of a write without seeing it."""
    if os.environ.get("REPLICATOR_GOLDEN") == "write":
        GOLDEN.write_text(rendered())

    assert GOLDEN.read_text() == rendered()
