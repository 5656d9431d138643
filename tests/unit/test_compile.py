"""From connector, transforms and catalogs to mappings; and every way in which they don't fit together."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from replicator import Aggregate, KeyMap, Row, transform
from replicator.compile import CompileError, Problem, compile_mappings
from replicator.config.fields import TablePattern
from replicator.errors import ErrorKind
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


COUNTRIES = table("public.countries", "iso text pk", "name text", "legacy integer null", "twice text generated")
REF = table("ref.countries", "iso_code text pk", "name text", "added text default", "upper text generated")
RENAMED = Entry("public.countries", "ref.countries", columns={"iso": "iso_code"}, drop=("legacy", "twice"))


def test_a_table_of_the_same_shape() -> None:
    """Columns are renamed and dropped, generated ones are left alone, and the key follows its column."""
    (mapping,) = compiled(RENAMED, old=catalog(COUNTRIES), upgraded=catalog(REF)).all
    assert ("public.countries", "same shape", None) == (mapping.name, mapping.label, mapping.function)
    assert {"iso": "iso_code", "name": "name"} == mapping.columns
    assert (("iso",), ("iso_code",)) == (mapping.root.key, mapping.target.key)


def test_a_table_of_the_same_shape_backwards() -> None:
    """The same entry, read from the other side."""
    (mapping,) = compiled(RENAMED, old=catalog(COUNTRIES), upgraded=catalog(REF), forward=False).all
    assert "public.countries" == mapping.name
    assert {"iso_code": "iso", "name": "name"} == mapping.columns
    assert (REF, COUNTRIES) == (mapping.root.table, mapping.target.table)
    assert (("iso_code",), ("iso",)) == (mapping.root.key, mapping.target.key)


def test_a_wildcard_takes_the_rest() -> None:
    """A wildcard stands for every table that nobody else names: no partition, no child of a transform's aggregate."""
    names = ("a", "b", "orders", "notes", "skipped", "events")
    old = catalog(
        *(table(f"public.{name}", "id bigint pk") for name in names),
        table("public.events_1", "id bigint pk", parent="public.events"),
        table("other.x", "id bigint pk"),
    )
    upgraded = catalog(*(table(f"crm.{name}", "id bigint pk") for name in ("a", "bb", "orders", "events")))

    @transform(old={"public.orders": "id", "public.notes": "id"}, upgraded="crm.orders")
    def order(order: Aggregate) -> Row:
        return order.root

    mappings = compiled(
        Entry("public.*", "crm.*", exclude=(TableName("public", "skipped"),)),
        Entry("public.b", "crm.bb"),
        transforms=[order],
        old=old,
        upgraded=upgraded,
    )
    assert {
        "public.orders": "crm.orders",
        "public.a": "crm.a",
        "public.b": "crm.bb",
        "public.events": "crm.events",
    } == {mapping.name: str(mapping.target.table.name) for mapping in mappings.all}


def test_tables_without_a_key_are_multisets() -> None:
    """A table that has no key at all is carried without one, in both directions."""
    old, upgraded = catalog(table("public.log", "line text")), catalog(table("public.log", "line text"))
    for forward in (True, False):
        (mapping,) = compiled(Entry("public.log"), old=old, upgraded=upgraded, forward=forward).all
        assert mapping.multiset


def test_another_unique_index_can_be_the_key() -> None:
    """Without a primary key that both have, the first unique index that both have identifies rows; or the one that
    the entry names.
    """
    old = table("public.t", "a text", "b text", "c text null", unique=(("c",), ("a",), ("b",)))
    upgraded = table("public.t", "a text null", "b text", "c text null", unique=(("a",), ("b",)))
    both: dict[str, Any] = {"old": catalog(old), "upgraded": catalog(upgraded)}
    assert ("b",) == compiled(Entry("public.t"), **both).all[0].root.key
    assert ("b",) == compiled(Entry("public.t", key=("b",)), **both).all[0].root.key
    assert "no unique index over (a)" in problems(Entry("public.t", key=("a",)), **both)[0].message
    assert "key names (c)" in problems(Entry("public.t", key=("c",)), **both)[0].message


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


@pytest.mark.parametrize("forward", [True, False])
def test_references_follow_a_key_that_changes(forward: bool) -> None:
    """What refers to a changed key is translated by that key's map, under the name that the column has on that side."""
    order, line = compiled(LINE_ENTRY, transforms=[orders()], forward=forward, **CHANGED).all
    assert order.key_map is not None
    assert ("public.orders", forward) == (order.key_map.name, order.key_map.forward)
    assert (None if forward else "public.orders_id_seq") == order.key_map.sequence
    assert forward is (order.key_map.function is not None)
    assert [(("parent",), order.key_map)] == [(each.columns, each.keys) for each in order.references]
    expected = ("order_ref",) if forward else ("order_id",)
    assert [(expected, order.key_map)] == [(each.columns, each.keys) for each in line.references]


def test_references_name_each_sides_columns() -> None:
    """A transform's reference may have another column, and another table, on the old side."""
    made = transform(
        old="public.lines",
        upgraded="crm.lines",
        references={"crm.lines.order_ref": ("public.orders", "public.lines.order_id")},
    )(identity)
    made.inverse(identity)
    for forward, expected in ((True, "order_ref"), (False, "order_id")):
        line = compiled(transforms=[orders(), made], forward=forward, **CHANGED).all[1]
        assert [(expected,)] == [each.columns for each in line.references]
        assert [line.target.table.name] == [each.table for each in line.references]


def test_both_directions_of_a_transform() -> None:
    """Forward and reverse share name and digest; predicates and sides change places."""
    made = orders(owns="kind = 'o'", owns_old="NOT dead", lossy=("parent",))
    (forward, _), (reverse, _) = (
        compiled(LINE_ENTRY, transforms=[made], forward=forward, **CHANGED).all for forward in (True, False)
    )
    assert (forward.name, forward.digest, forward.lossy) == (reverse.name, reverse.digest, reverse.lossy)
    assert ("kind = 'o'", "NOT dead") == (forward.owns, forward.owns_source) == (reverse.owns_source, reverse.owns)
    assert (forward.sources[0].table, forward.targets[0].table) == (reverse.targets[0].table, reverse.sources[0].table)


def test_keys_of_the_same_names_correspond_by_name() -> None:
    """Primary keys over the same columns in another order correspond by name, declared ones by position."""
    old = catalog(table("public.t", "a integer pk", "b integer pk"))
    upgraded = catalog(table("crm.t", "a integer", "b integer", key=("b", "a")))
    by_name = transform(old="public.t", upgraded="crm.t")(identity)
    by_position = transform(old="public.t", upgraded={"crm.t": ("b", "a")})(identity)
    assert ("a", "b") == compiled(transforms=[by_name], old=old, upgraded=upgraded).all[0].target.key
    assert ("b", "a") == compiled(transforms=[by_position], old=old, upgraded=upgraded).all[0].target.key


SAME = table("public.t", "id bigint pk", "v text null")
MISFITS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "no such old table",
        {"entries": [Entry("public.tt")]},
        "old database has no such table",
        "Did you mean public.t?",
    ),
    ("no such schema", {"entries": [Entry("publik.*")]}, "no table there", "name of the schema"),
    (
        "no such upgraded table",
        {"entries": [Entry("public.t", "public.tt")]},
        "upgraded database has no such",
        "public.t?",
    ),
    ("a column renamed", {"entries": [Entry("public.t", columns={"vv": "v"})]}, "columns names column vv", "mean v?"),
    (
        "a column renamed to",
        {"entries": [Entry("public.t", columns={"v": "vv"})]},
        "columns names column vv",
        "mean v?",
    ),
    ("a column dropped", {"entries": [Entry("public.t", drop=["vv"])]}, "drop names column vv", "Did you mean v?"),
    ("a lossy column", {"entries": [Entry("public.t", lossy=["vv"])]}, "lossy names column vv", "Did you mean v?"),
    (
        "a column that upgraded lacks",
        {"entries": [Entry("public.t")], "upgraded": catalog(table("public.t", "id bigint pk"))},
        "no column v for public.t's v",
        "in drop",
    ),
    (
        "a column that nothing fills",
        {
            "entries": [Entry("public.t")],
            "upgraded": catalog(table("public.t", "id bigint pk", "v text null", "n text")),
        },
        "nothing fills column n",
        "Give it a default",
    ),
    (
        "a dropped column that must be filled on the way back",
        {
            "entries": [Entry("public.t", drop=["n"])],
            "old": catalog(table("public.t", "id bigint pk", "n text")),
            "upgraded": catalog(table("public.t", "id bigint pk")),
            "forward": False,
        },
        "nothing fills column n",
        "cutover.reverse",
    ),
    (
        "a column that is generated at the source",
        {"entries": [Entry("public.t")], "old": catalog(table("public.t", "id bigint pk", "v text generated"))},
        "column v is generated here",
        "Add v to drop",
    ),
    (
        "no index to find rows by",
        {"entries": [Entry("public.t")], "upgraded": catalog(table("public.t", "id bigint", "v text null"))},
        "no unique index over (id), NOT NULL",
        "Add one",
    ),
    (
        "a key that can't keep its value",
        {"entries": [Entry("public.t")], "upgraded": catalog(table("public.t", "id uuid pk", "v text null"))},
        "key column id is uuid, and public.t's id is bigint",
        "KeyMap",
    ),
    (
        "a reference to no key that changes",
        {"entries": [Entry("public.t", references={"v": TableName("public", "x")})]},
        "references public.x, which is no transform that changes its key",
        "KeyMap",
    ),
    (
        "a table twice",
        {"entries": [Entry("public.t")], "transforms": [transform(old="public.t", upgraded="public.t")(identity)]},
        "has an entry in tables, and transform",
        "Remove one",
    ),
    (
        "a partition",
        {"entries": [Entry("public.t")], "old": catalog(table("public.t", "id bigint pk", parent="public.r"))},
        "it is a partition of public.r",
        "Name public.r",
    ),
    (
        "two that write one table",
        {
            "entries": [Entry("public.t"), Entry("public.u", "public.t")],
            "old": catalog(SAME, table("public.u", "id bigint pk")),
        },
        "mapping public.t writes this table too",
        "owns=",
    ),
    (
        "a transform's table",
        {"transforms": [transform(old="elsewhere.gone", upgraded="public.t")(identity)]},
        "old database has no such table",
        "Correct the name",
    ),
    (
        "a transform's key column",
        {"transforms": [transform(old={"public.t": "idd"}, upgraded="public.t")(identity)]},
        "its key names column idd",
        "Did you mean id?",
    ),
    (
        "a transform's key that isn't one",
        {"transforms": [transform(old={"public.t": "v"}, upgraded="public.t")(identity)]},
        "its key (v) isn't unique and NOT NULL in the old database",
        "unique index over (v)",
    ),
    (
        "a transform without a key",
        {
            "transforms": [transform(old="public.t", upgraded="public.t")(identity)],
            "old": catalog(table("public.t", "v text")),
        },
        "root table needs a key",
        "Add a primary key",
    ),
    (
        "keys of different lengths",
        {
            "transforms": [transform(old="public.t", upgraded="public.t")(identity)],
            "upgraded": catalog(table("public.t", "id bigint pk", "n bigint pk")),
        },
        "the key has 1 column(s) in public.t and 2 here",
        "columns that correspond",
    ),
    (
        "a transform's lossy column",
        {"transforms": [transform(old="public.t", upgraded="public.t", lossy="vv")(identity)]},
        "lossy names column vv",
        "Did you mean v?",
    ),
    (
        "no inverse",
        {"transforms": [transform(old="public.t", upgraded="public.t")(identity)], "forward": False},
        "has no inverse",
        "@identity.inverse",
    ),
    (
        "no way back for a key",
        {"transforms": [orders(key=KeyMap(int))], "forward": False, **CHANGED},
        "a row born on the upgraded side gets no old key",
        "sequence=",
    ),
    (
        "a reference that is missing",
        {
            "entries": [Entry("public.lines", "crm.lines", columns={"order_id": "order_ref"})],
            "transforms": [orders()],
            **CHANGED,
        },
        "its column(s) order_ref point at crm.orders, whose key changes",
        "references: {order_id: public.orders}",
    ),
    (
        "a key that is translated twice",
        {"transforms": [orders(references={"id": "public.orders", "parent": "public.orders"})], **CHANGED},
        "its key (id) is translated twice",
        "Remove one",
    ),
    (
        "a reference's column",
        {"transforms": [orders(references={"parnt": "public.orders"})], **CHANGED},
        "references names column parnt",
        "Did you mean parent?",
    ),
    (
        "a reference's table",
        {"transforms": [orders(references={"crm.x.parent": "public.orders"})], **CHANGED},
        "references names a table that it doesn't write",
        "one of its own",
    ),
    (
        "a reference's length",
        {"transforms": [orders(references={("parent", "id"): "public.orders"})], **CHANGED},
        "references public.orders by 2 column(s), and its key has 1",
        "as many",
    ),
    (
        "two that read one table",
        {
            "transforms": [
                transform(old="public.t", upgraded="public.t", name=name, owns=name, owns_old=name)(identity)
                for name in "ab"
            ]
        },
        "mapping a reads this table too",
        "one transform of the two",
    ),
]


@pytest.mark.parametrize("_name, given, told, remedy", MISFITS, ids=[misfit[0] for misfit in MISFITS])
def test_what_does_not_fit_is_told(_name: str, given: dict[str, Any], told: str, remedy: str) -> None:
    """Each thing that can't work is a problem that says what, where, and what to do."""
    rest = {"old": catalog(SAME), "upgraded": catalog(SAME)} | {k: v for k, v in given.items() if k != "entries"}
    found = problems(*given.get("entries", ()), **rest)
    assert [True] == [told in problem.message and remedy in problem.remedy for problem in found], found


def test_all_problems_are_told_at_once() -> None:
    """One error has all problems, each once, in a text for people."""
    with pytest.raises(CompileError) as caught:
        compiled(Entry("public.x"), Entry("public.y"), old=catalog(SAME), upgraded=catalog(SAME))
    assert ErrorKind.CONFIG is caught.value.kind
    assert 2 == len(caught.value.problems)
    assert str(caught.value).startswith("2 problems in what is mapped:\n  - public.x: the old database")


def test_names_are_compared_exactly() -> None:
    """Names with quotes, dots, capitals and reserved words are names like others."""
    odd = table('"a.b"."Sel ect"', "id bigint pk", "User text null")
    (mapping,) = compiled(Entry('"a.b".*'), old=catalog(odd), upgraded=catalog(odd)).all
    assert ('"a.b"."Sel ect"', {"id": "id", "User": "User"}) == (mapping.name, mapping.columns)
