"""The laws of transforms: each broken one is found, and a good transform breaks none."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID, uuid5

import pytest

from replicator import Aggregate, KeyMap, Row, transform
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Relation
from replicator.lawcheck import Law, LawCheck, LawReport
from replicator.mapping import SourceAggregate, SourceRows
from replicator.tables import Catalog, Table
from replicator.transforms import Transform
from tests.shapes import catalog, table

NAMESPACE = UUID(int=3)
ROLES = {"viewer": ("read",), "admin": ("read", "write")}
TICKS = itertools.count()

USERS = table("public.users", "id bigint pk", "name text", "role text", "fax text null")
PEOPLE = table("crm.people", "id bigint pk", "name text", "role text", "nick varchar(5) null")
GRANTS = table("crm.grants", "id bigint pk default", "user_id bigint", "grant text", unique=(("user_id", "grant"),))
OLD, UPGRADED = catalog(USERS), catalog(PEOPLE, GRANTS)
BOTH: dict[str, Any] = {"old": "public.users", "upgraded": "crm.people"}


def sample(*values: str | None, of: Table = USERS) -> SourceAggregate:
    row = tuple(None if value is None else value.encode() for value in values)
    assert row[0] is not None
    return SourceAggregate((row[0],), (SourceRows(Relation(of.name, of.writable), [row]),))


ADA, BOB = sample("1", "Ada", "admin", None), sample("2", "Bob", "viewer", "555")


def declared(
    forward: Callable[[Any], Any], back: Callable[[Any], Any] | None = None, **arguments: Any
) -> Transform[Any, Any]:
    made: Transform[Any, Any] = transform(**BOTH | arguments)(forward)
    if back is not None:
        made.inverse(back)
    return made


def check(
    made: Transform[Any, Any],
    *samples: SourceAggregate,
    old: Catalog = OLD,
    upgraded: Catalog = UPGRADED,
    generated: int = 100,
    **rest: Any,
) -> LawReport:
    laws = LawCheck((), [made], old, upgraded, seed=1, **rest)
    return laws.check(laws.mappings[0], samples, generated)


def broken(report: LawReport) -> list[tuple[Law, tuple[str, ...], bool]]:
    return [(failure.law, failure.columns, failure.sampled) for failure in report.failures]


def forward(row: Row) -> Row:
    return row.drop("fax")


def back(row: Row) -> Row:
    return row.drop("nick")


def test_a_good_transform_breaks_no_law() -> None:
    """A transform with a true inverse, whose losses are declared, is checked on all aggregates and found good."""
    report = check(declared(forward, back, lossy="fax"), ADA, BOB)
    assert report.ok
    assert (100, 2, 0, {}, ()) == (
        report.generated,
        report.sampled,
        report.filtered,
        report.refused,
        report.unknown,
    )
    assert ("public.users", 1) == (report.mapping, report.seed)


def test_a_loss_that_is_not_declared_is_found() -> None:
    """A column that the inverse doesn't give back is named; its values only when asked for."""
    report = check(declared(forward, back), BOB)
    assert [(Law.ROUND_TRIP, ("fax",), True)] == broken(report)
    assert "the inverse doesn't give fax" == report.failures[0].message
    assert (("2",), ()) == (report.failures[0].key, report.failures[0].differences)
    assert 101 == report.failures[0].count
    shown = check(declared(forward, back), BOB, show_values=True).failures[0].differences
    assert [("fax", "555", None)] == [(each.column, each.before, each.after) for each in shown]


def test_a_changed_value_is_found() -> None:
    """A column that comes back with another value is named."""
    report = check(
        declared(forward, lambda row: row.drop("nick").set(role=row["role"].lower()), lossy="fax"),
        sample("1", "A", "ADMIN", None),
    )
    assert [(Law.ROUND_TRIP, ("role",), True)] == broken(report)


@pytest.mark.parametrize(
    "forward",
    [
        lambda row: row.drop("fax").set(nick=str(next(TICKS) % 100_000)),
        lambda row: row.drop("fax") if next(TICKS) % 2 else None,
        lambda row: row.drop("fax", *["x"] * (next(TICKS) % 2)),
    ],
)
def test_a_transform_that_is_not_pure_is_found(forward: Callable[[Row], Row]) -> None:
    """Two runs that differ, in values, in rows or in whether they succeed, break the law of purity."""
    assert Law.PURE in {law for law, _, _ in broken(check(declared(forward, back, lossy="fax"), ADA))}


def test_impurity_names_the_column() -> None:
    """The column that differs between two runs is named."""
    report = check(declared(lambda row: row.drop("fax").set(nick=str(next(TICKS) % 100_000)), back, lossy="fax"), ADA)
    assert [(Law.PURE, ("nick",), True)] == broken(report)


def test_an_inverse_that_is_not_pure_is_found() -> None:
    """The inverse is a transform too."""
    report = check(declared(forward, lambda row: row.drop("nick").set(fax=str(next(TICKS))), lossy="fax"), ADA)
    assert [(Law.PURE, ("fax",), True)] == broken(report)


def test_refused_generated_rows_are_no_failure_and_refused_sampled_ones_are() -> None:
    """A transform may not know what a generator makes up; a row that the database has, it must take."""

    def known(row: Row) -> Row:
        return row.drop("fax").set(name=",".join(ROLES[row["role"]]))

    made = declared(known)
    generated = check(made)
    assert generated.ok
    assert [True] == ["raised KeyError" in reason for reason in generated.refused]
    assert {"the round trip", "rows of the old database", "generated aggregates"} == {
        what.partition(":")[0] for what in generated.unknown
    }
    sampled = check(made, ADA, sample("3", "Cyd", "root", None), generated=0)
    assert [(Law.RUNS, (), True)] == broken(sampled)
    assert ("3",) == sampled.failures[0].key


def test_generated_rows_take_values_from_sampled_ones() -> None:
    """With samples, most generated rows have values that a transform knows."""

    def known(row: Row) -> Row:
        return row.drop("fax").set(name=",".join(ROLES[row["role"]]))

    assert 50 < check(declared(known), ADA, BOB).generated < 100


@pytest.mark.parametrize(
    "forward, columns, told",
    [
        (lambda row: row.drop("fax", "name"), ("name",), "no value for column name, which is NOT NULL"),
        (lambda row: row.drop("fax").set(name=None), ("name",), "no value for column name, which is NOT NULL"),
        (lambda row: row.drop("fax").set(nick="x" * 6), ("nick",), "too long for varchar(5)"),
    ],
)
def test_rows_that_do_not_fit_are_found(forward: Callable[[Row], Row], columns: tuple[str, ...], told: str) -> None:
    """What the table would refuse is found without a database."""
    report = check(declared(forward), ADA)
    assert [(Law.FITS, columns, True)] == broken(report)
    assert told in report.failures[0].message
    assert [True] == [told in reason for reason in report.refused]


MANY: dict[str, Any] = {"upgraded": {"crm.people": "id", "crm.grants": "user_id"}}


def user(row: Row) -> Iterable[Row]:
    yield row.to("crm.people").drop("fax")
    for grant in ROLES[row["role"]]:
        yield Row.of("crm.grants", grant=grant)


def user_back(user: Aggregate) -> Row:
    granted = sorted(row["grant"] for row in user["crm.grants"])
    role = next(role for role, grants in ROLES.items() if sorted(grants) == granted)
    return user.root.to("public.users").drop("nick").set(role=role)


def test_one_to_many_is_led_back() -> None:
    """Rows of several tables, with surrogate keys of their own, are read back as an aggregate."""
    assert check(declared(user, user_back, lossy="fax", **MANY), ADA, BOB).ok


def test_two_rows_with_one_key_are_found() -> None:
    """An aggregate whose rows have the same unique key can't be written."""

    def doubled(row: Row) -> Iterable[Row]:
        yield from user(row)
        yield Row.of("crm.grants", grant="read")

    report = check(declared(doubled, **MANY), ADA, generated=0)
    assert [(Law.FITS, ("user_id", "grant"), True)] == broken(report)


ORDERS = table("public.orders", "id bigint pk", "parent bigint null", "total numeric(8,2)")
NOTES = table("public.notes", "id bigint pk", "order_id bigint", "body text")
UUID_ORDERS = table("crm.orders", "id uuid pk", "parent uuid null", "total numeric(10,2)", "notes jsonb")


def order(order: Aggregate) -> Row:
    return order.root.set(notes=[{"id": note["id"], "body": note["body"]} for note in order["public.notes"]])


def order_back(row: Row) -> Iterable[Row]:
    assert isinstance(row["id"], UUID)
    yield row.to("public.orders").drop("notes")
    for note in row["notes"]:
        yield Row.of("public.notes", note)


def keyed(function: Callable[[int], UUID]) -> Transform[Any, Any]:
    return declared(
        order,
        order_back,
        old={"public.orders": "id", "public.notes": "order_id"},
        upgraded="crm.orders",
        key=KeyMap(function, sequence="public.orders_id_seq"),
        references={"parent": "public.orders"},
    )


def test_many_to_one_with_a_key_that_changes() -> None:
    """Keys and references are translated forth and back as the engine does; rows that went into a document return."""
    report = check(
        keyed(lambda number: uuid5(NAMESPACE, str(number))), old=catalog(ORDERS, NOTES), upgraded=catalog(UUID_ORDERS)
    )
    assert report.ok
    assert (100, 0) == (report.generated, report.filtered)


def test_a_key_function_that_merges_rows_is_found() -> None:
    """A function that gives two rows one key would let one replace the other."""
    report = check(
        keyed(lambda number: uuid5(NAMESPACE, str(number % 3))),
        old=catalog(ORDERS, NOTES),
        upgraded=catalog(UUID_ORDERS),
    )
    assert Law.KEYS in {law for law, _, _ in broken(report)}


def test_an_inverse_that_fails_or_returns_nothing_is_found() -> None:
    """What went forward must come back."""

    def fails(row: Row) -> Row:
        raise RuntimeError(row["name"])

    for inverse, told in ((fails, "the inverse fails: "), (lambda _: None, "the inverse returned nothing")):
        report = check(declared(forward, inverse, lossy="fax"), ADA, generated=0)
        assert [True] == [failure.message.startswith(told) for failure in report.failures]


def test_filtered_aggregates_are_counted() -> None:
    """Nothing comes back of what is left out, so nothing is asked of it."""
    report = check(
        declared(lambda row: None if row.raw("fax") else forward(row), back, lossy="fax"), ADA, BOB, generated=0
    )
    assert (True, 1) == (report.ok, report.filtered)


def test_what_cannot_be_generated_is_said() -> None:
    """Columns of types that nobody knows are NULL or sampled; where they must have a value, nothing is generated."""
    odd = table("public.users", "id bigint pk", "name text", "role geometry null")
    report = check(declared(lambda row: row.set(role="x")), sample("1", "A", None, of=odd), old=catalog(odd))
    assert "values of public.users.role (geometry): only sampled ones, or NULL" in report.unknown
    needed = table("public.users", "id bigint pk", "name text", "role geometry")
    report = check(declared(forward), old=catalog(needed))
    assert "no aggregate could be generated: column role needs a value of an unknown type" in report.unknown
    assert 0 == report.generated


def test_mappings_that_do_not_compile_are_told() -> None:
    """Laws of a transform whose tables aren't there can't be checked."""
    with pytest.raises(ReplicatorError, match="upgraded database has no such table") as caught:
        LawCheck((), [declared(forward)], OLD, catalog(GRANTS), seed=1)
    assert ErrorKind.CONFIG is caught.value.kind
