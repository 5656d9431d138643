"""Connector entries, transforms and catalogs for tests of the compiler."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from replicator import KeyMap, Row, transform
from replicator.compile import CompileError, Problem, compile_mappings
from replicator.config.fields import TablePattern
from replicator.mapping import Mappings
from replicator.tables import Catalog, TableName
from replicator.transforms import Transform
from tests.shapes import catalog, table


@dataclass
class Entry:
    """An entry of `tables`, as `replicator.config` gives it."""

    name: str
    to: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    drop: Collection[str] = ()
    references: Mapping[str, TableName] = field(default_factory=dict)
    lossy: Collection[str] = ()
    key: tuple[str, ...] | None = None
    exclude: Collection[TableName] = ()

    @property
    def old(self) -> TablePattern:
        return TablePattern.parse(self.name)

    def upgraded_table(self, table: TableName) -> TableName:
        if self.to is None:
            return table
        pattern = TablePattern.parse(self.to)
        return TableName(pattern.schema, table.name) if pattern.wildcard else pattern.table


def identity(row: Row) -> Row:
    return row


def compiled(
    *entries: Entry,
    transforms: Collection[Transform[Any, Any]] = (),
    old: Catalog,
    upgraded: Catalog,
    forward: bool = True,
) -> Mappings:
    return compile_mappings(entries, transforms, old, upgraded, forward=forward)


def problems(*entries: Entry, **rest: Any) -> tuple[Problem, ...]:
    with pytest.raises(CompileError) as caught:
        compiled(*entries, **rest)
    return caught.value.problems


ORDERS = table("public.orders", "id bigint pk", "parent bigint null")
LINES = table("public.lines", "order_id bigint pk", "line integer pk", foreign={"order_id": ("public.orders", "id")})
UUID_ORDERS = table("crm.orders", "id uuid pk", "parent uuid null")
UUID_LINES = table("crm.lines", "order_ref uuid pk", "line integer pk", foreign={"order_ref": ("crm.orders", "id")})
KEY = KeyMap(lambda number: uuid4(), sequence="public.orders_id_seq")  # noqa: ARG005 - never called


def orders(**declared: Any) -> Transform[Any, Any]:
    usual = {"old": "public.orders", "upgraded": "crm.orders", "key": KEY, "references": {"parent": "public.orders"}}
    arguments: dict[str, Any] = usual | declared
    made: Transform[Any, Any] = transform(**arguments)(identity)
    made.inverse(identity)
    return made


LINE_ENTRY = Entry(
    "public.lines",
    "crm.lines",
    columns={"order_id": "order_ref"},
    references={"order_id": TableName("public", "orders")},
)
CHANGED = {"old": catalog(ORDERS, LINES), "upgraded": catalog(UUID_ORDERS, UUID_LINES)}
