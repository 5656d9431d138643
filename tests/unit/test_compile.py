"""From connector, transforms and catalogs to mappings."""

from typing import Any

import pytest

from replicator import Aggregate, Row, transform
from replicator.tables import TableName
from tests.compiling import CHANGED, LINE_ENTRY, Entry, compiled, identity, orders, problems
from tests.shapes import catalog, table

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


def test_the_digest_follows_the_tables() -> None:
    """What is carried, the key, and the columns of a transform's tables: another of any is another digest."""
    plain = ("a integer pk", "b integer", "c text")
    same = transform(old="public.t", upgraded="crm.t")(identity)

    def digest(old: tuple[str, ...], upgraded: tuple[str, ...], entry: Entry | None = None, key: Any = None) -> str:
        both = catalog(table("public.t", *old, key=key)), catalog(table("crm.t", *upgraded, key=key))
        if entry is None:
            return compiled(transforms=[same], old=both[0], upgraded=both[1]).all[0].digest
        return compiled(entry, old=both[0], upgraded=both[1]).all[0].digest

    entry = Entry("public.t", "crm.t")
    without = Entry("public.t", "crm.t", drop=("c",))
    wide = (*plain, "d text null")
    keyless = ("a integer", "b integer", "c text null")
    of_entry = [
        digest(plain, plain, entry),
        digest(plain, ("a integer pk", "b integer", "c text null"), without),
        digest(wide, wide, entry),
        digest(keyless, keyless, entry, key=("b",)),
        digest(plain, ("a integer pk", "b bigint", "c text"), entry),
    ]
    of_transform = [
        digest(plain, plain),
        digest(wide, plain),
        digest(plain, wide),
        digest(keyless, keyless, key=("b",)),
    ]
    assert len(of_entry) == len(set(of_entry))
    assert len(of_transform) == len(set(of_transform))


def test_keys_of_the_same_names_correspond_by_name() -> None:
    """Primary keys over the same columns in another order correspond by name, declared ones by position."""
    old = catalog(table("public.t", "a integer pk", "b integer pk"))
    upgraded = catalog(table("crm.t", "a integer", "b integer", key=("b", "a")))
    by_name = transform(old="public.t", upgraded="crm.t")(identity)
    by_position = transform(old="public.t", upgraded={"crm.t": ("b", "a")})(identity)
    assert ("a", "b") == compiled(transforms=[by_name], old=old, upgraded=upgraded).all[0].target.key
    assert ("b", "a") == compiled(transforms=[by_position], old=old, upgraded=upgraded).all[0].target.key


def test_names_are_compared_exactly() -> None:
    """Names with quotes, dots, capitals and reserved words are names like others."""
    odd = table('"a.b"."Sel ect"', "id bigint pk", "User text null")
    (mapping,) = compiled(Entry('"a.b".*'), old=catalog(odd), upgraded=catalog(odd)).all
    assert ('"a.b"."Sel ect"', {"id": "id", "User": "User"}) == (mapping.name, mapping.columns)
