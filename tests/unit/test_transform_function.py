"""What reaches a user's function, and what its result becomes: an outcome, or an error that names the culprit."""

import re
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any
from uuid import UUID, uuid5

import pytest

from replicator import Aggregate, KeyMap, Row, transform
from replicator.compile import compile_mappings
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import UNCHANGED, Relation, Values
from replicator.mapping import Mapping, NeedsFetch, Outcome, SourceAggregate, SourceRows
from replicator.tables import Table
from tests.shapes import catalog, table

NAMESPACE = UUID(int=9)
USERS = table("public.users", "id bigint pk", "name text", "role text null", "big text null", "shout text generated")
NOTES = table("public.notes", "id bigint pk", "user_id bigint", "body text")
PEOPLE = table("crm.people", "id bigint pk", "name text", "extra jsonb null", "big text null", "initial text generated")
GRANTS = table("crm.grants", "person_id bigint pk", "grant text pk", "since timestamptz default")
PAIRS = table("public.pairs", "a int4 pk", "b text pk", "v text null")
TWINS = table("crm.twins", "b text pk", "a int4 pk", "v text null")
OLD, UPGRADED = catalog(USERS, NOTES, PAIRS), catalog(PEOPLE, GRANTS, TWINS)

ONE: dict[str, Any] = {"old": "public.users", "upgraded": "crm.people"}
MANY: dict[str, Any] = {"old": "public.users", "upgraded": {"crm.people": "id", "crm.grants": "person_id"}}
JOINED: dict[str, Any] = {"old": {"public.users": "id", "public.notes": "user_id"}, "upgraded": "crm.people"}


def rows(source: Table, *values: tuple[str | None, ...], columns: tuple[str, ...] | None = None) -> SourceRows:
    """Rows as the stream carries them: without generated columns."""
    relation = Relation(source.name, columns or source.writable)
    made: list[Values] = [tuple(None if v is None else v.encode() for v in row) for row in values]
    return SourceRows(relation, made)


ADA = SourceAggregate((b"7",), (rows(USERS, ("7", "Ada", "admin", None)),))
ADA_AND_NOTES = SourceAggregate((b"7",), (*ADA.tables, rows(NOTES, ("1", "7", "hello"), ("2", "7", "there"))))


def compiled(function: Callable[[Any], Any], **declared: Any) -> Mapping:
    """The forward mapping of one transform."""
    made = transform(**declared)(function)
    return compile_mappings((), [made], OLD, UPGRADED, forward=True).all[0]


def run(function: Callable[[Any], Any], aggregate: SourceAggregate = ADA, **declared: Any) -> Outcome:
    mapping = compiled(function, **(declared or ONE))
    assert mapping.function is not None
    return mapping.function(aggregate)


def plain(row: Row) -> Row:
    return row.drop("role")


def test_one_row_becomes_one_row() -> None:
    """The plain case: untouched columns as they came, others as they were set, in the table's order."""
    outcome = run(lambda row: row.drop("role").set(extra={"was": row["role"]}, name=row["name"].upper()))
    assert [[{"id": b"7", "name": b"ADA", "extra": b'{"was": "admin"}', "big": None}]] == outcome.rows
    assert ["id", "name", "extra", "big"] == list(outcome.rows[0][0])


def test_one_row_becomes_many() -> None:
    """Rows for several tables come out by table, with the key filled in where it wasn't given."""

    def user(row: Row) -> Iterator[Row]:
        yield row.to("crm.people").drop("role")
        yield Row.of("crm.grants", person_id=row["id"], grant="read")
        yield Row.of("crm.grants", grant="write")

    outcome = run(user, **MANY)
    assert [1, 2] == [len(each) for each in outcome.rows]
    assert [{"person_id": b"7", "grant": b"read"}, {"person_id": b"7", "grant": b"write"}] == outcome.rows[1]


def test_several_tables_come_as_an_aggregate() -> None:
    """A source of several tables arrives with its root, its children and its key."""

    def user(user: Aggregate) -> Row:
        assert (7,) == user.key
        return user.root.drop("role").set(extra=[note["body"] for note in user["public.notes"]])

    assert b'["hello", "there"]' == run(user, ADA_AND_NOTES, **JOINED).rows[0][0]["extra"]


def test_the_annotation_decides_for_one_table() -> None:
    """A function that says Aggregate gets one, also for a single table."""

    def user(user: Aggregate) -> Row:
        return user.root.drop("role")

    assert b"7" == run(user).rows[0][0]["id"]


@pytest.mark.parametrize("nothing", [lambda _: None, lambda _: [], lambda _: iter(())])
def test_nothing_filters(nothing: Callable[[Any], Any]) -> None:
    """None, and no rows at all, leave the aggregate out."""
    assert [[], []] == run(nothing, **MANY).rows


def test_unchanged_values_pass() -> None:
    """A value that the change didn't carry passes through a transform that doesn't read it."""
    source = rows(USERS, ("7", "Ada", "admin", None))
    aggregate = SourceAggregate((b"7",), (SourceRows(source.relation, [(*source.rows[0][:3], UNCHANGED)]),))
    assert UNCHANGED is run(plain, aggregate).rows[0][0]["big"]


@pytest.mark.parametrize("caught", [Exception, BaseException])
@pytest.mark.parametrize("goes_on", [True, False])
def test_reading_an_unchanged_value_fetches(caught: type[BaseException], *, goes_on: bool) -> None:
    """A function that reads an unsent value is stopped there, or what it makes without the value doesn't count."""

    def user(row: Row) -> Row:
        try:
            return row.drop("role").set(name=row["big"])
        except caught:
            if goes_on:
                return row.drop("role")
            raise ValueError from None

    aggregate = SourceAggregate(
        (b"7",), (SourceRows(Relation(USERS.name, USERS.writable), [(b"7", b"A", None, UNCHANGED)]),)
    )
    with pytest.raises(NeedsFetch):
        run(user, aggregate)


def test_generated_columns_are_not_seen() -> None:
    """A generated column of the source is absent, whether the row was streamed or read: the outcome is the same."""
    read = rows(USERS, ("7", "Ada", "admin", None, "ADA"), columns=USERS.column_names)
    assert run(plain).rows == run(plain, SourceAggregate((b"7",), (read,))).rows


def test_columns_that_came_later_are_typed_by_the_stream() -> None:
    """A column that the catalog didn't know, or knew with another type, is decoded by what the stream says."""
    relation = Relation(USERS.name, ("id", "name", "fresh"), (20, 1700, 16))
    aggregate = SourceAggregate((b"7",), (SourceRows(relation, [(b"7", b"1.50", b"t")]),))
    outcome = run(lambda row: row.keep("id").set(name=str(row["name"] * 2), extra=row["fresh"]), aggregate)
    assert {"id": b"7", "name": b"3.00", "extra": b"true"} == outcome.rows[0][0]


def test_equal_keys_may_differ_in_text() -> None:
    """A key that was read and set again is the same key, and goes out as the source printed it."""
    numeric = table("public.n", "id numeric pk", "v text null")
    target = table("crm.n", "id numeric pk", "v text null")
    made = transform(old="public.n", upgraded="crm.n")(lambda row: row.set(id=row["id"].normalize()))
    mapping = compile_mappings((), [made], catalog(numeric), catalog(target), forward=True).all[0]
    assert mapping.function is not None
    assert b"7.00" == mapping.function(SourceAggregate((b"7.00",), (rows(numeric, ("7.00", None)),))).rows[0][0]["id"]


def test_composite_keys_correspond_by_name() -> None:
    """Two primary keys over the same columns in another order are the same key."""
    outcome = run(
        lambda row: row.drop("a"),
        SourceAggregate((b"1", b"x"), (rows(PAIRS, ("1", "x", None)),)),
        old="public.pairs",
        upgraded="crm.twins",
    )
    assert [{"b": b"x", "a": b"1", "v": None}] == outcome.rows[0]


def test_a_key_map_leaves_the_key_to_the_engine() -> None:
    """With a KeyMap the rows hold the untranslated key, and the mapping tells how it is translated."""
    target = table("crm.people", "id uuid pk", "name text", "big text null")
    grants = table("crm.grants", "person_id uuid pk", "grant text pk")

    def user(row: Row) -> Iterator[Row]:
        yield row.drop("role").to("crm.people")
        yield Row.of("crm.grants", person_id=row["id"], grant="read")

    made = transform(key=KeyMap(lambda number: uuid5(NAMESPACE, str(number)), sequence="public.users_id_seq"), **MANY)(
        user
    )
    mapping = compile_mappings((), [made], OLD, catalog(target, grants), forward=True).all[0]
    assert mapping.function is not None
    assert mapping.key_map is not None
    assert mapping.key_map.function is not None
    outcome = mapping.function(ADA)
    assert (b"7", b"7") == (outcome.rows[0][0]["id"], outcome.rows[1][0]["person_id"])
    assert (str(uuid5(NAMESPACE, "7")).encode(),) == mapping.key_map.function((b"7",))


async def later(row: Row) -> Row:
    return row


async def stream(row: Row) -> AsyncIterator[Row]:
    yield row


def raises_midway(row: Row) -> Iterator[Row]:
    yield row.to("crm.people").drop("role")
    raise RuntimeError(row["name"])


def coroutine(row: Row) -> Coroutine[Any, Any, Row]:
    return later(row)


def twice(row: Row) -> list[Row]:
    return [plain(row), plain(row)]


BAD: list[tuple[Callable[[Any], Any], dict[str, Any], str]] = [
    (lambda row: row["name"].no_such_method(), ONE, r"raised AttributeError \(at test_transform_function.py:\d+\)"),
    (lambda row: {}[row["name"]], ONE, "raised KeyError"),
    (lambda _: exit(), ONE, "raised SystemExit"),  # noqa: PLR1722 - a user's slip
    (raises_midway, MANY, "raised RuntimeError"),
    (lambda row: row["nme"], ONE, "no column nme in public.users; did you mean name"),
    (lambda row: {**row}, ONE, "returned a dict, where a Row"),
    (lambda _: 5, ONE, "returned an int, where a Row"),
    (lambda _: "text", ONE, "returned a str"),
    (lambda _: [5], ONE, "yielded an int, where a Row"),
    (coroutine, ONE, "returned a coroutine: a transform must not be async"),
    (stream, ONE, "must not be async"),
    (lambda row: plain(row).set(nme="x"), ONE, "returned a row: no column nme in crm.people; did you mean name"),
    (lambda row: plain(row).set(initial="x"), ONE, "column initial of crm.people, which the database generates itself"),
    (lambda row: plain(row).to("crm.persons"), ONE, "row for crm.persons, and it is declared for crm.people"),
    (plain, MANY, r"doesn't say for which table it is: row.to\(...\) one of crm.people, crm.grants"),
    (twice, ONE, "returned 2 rows for the root table crm.people, not one"),
    (lambda row: plain(row).set(id=8), ONE, "belongs to another aggregate: its id isn't the id"),
    (lambda row: plain(row).set(id=None), ONE, "whose key column id is NULL"),
    (lambda row: Row.of("crm.grants", person_id=row["id"], grant="x"), MANY, "none for the root table crm.people"),
    (
        lambda row: [plain(row).to("crm.people"), Row.of("crm.grants", person_id=8)],
        MANY,
        "another aggregate: its person_id",
    ),
    (lambda row: plain(row).set(extra=object()), ONE, "column extra: a value of Python type object"),
    (lambda row: plain(row).set(name="a\0"), ONE, "column name: a text with a NUL"),
    (lambda row: row.to("nowhere"), ONE, "not a table name of the form"),
]


@pytest.mark.parametrize("function, declared, told", BAD)
def test_mistakes_are_told(function: Callable[[Any], Any], declared: dict[str, Any], told: str) -> None:
    """Every mistake is an error that names the function, its file, the table and the key; never a value."""
    made = transform(**declared)(lambda _: None)
    made.function = function  # also functions that the decorator would refuse
    mapping = compile_mappings((), [made], OLD, UPGRADED, forward=True).all[0]
    assert mapping.function is not None
    with pytest.raises(ReplicatorError, match=told) as caught:
        mapping.function(ADA)
    error = caught.value
    assert ErrorKind.TRANSFORM is error.kind
    assert ("public.users", ("7",)) == (error.table, error.key)
    assert re.match(r"transform \S+ \(test_transform_function.py:\d+\): ", error.message)
    assert "Ada" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "function, told",
    [
        (lambda number: 1 / (number - number), "raised ZeroDivisionError"),
        (lambda _: None, "returned None for column id"),
        (lambda number: (number, number), r"returned 2 value\(s\) for 1 column\(s\)"),
        (lambda _: object(), "returned what column id can't hold"),
    ],
)
def test_mistakes_of_a_key_function_are_told(function: Callable[..., Any], told: str) -> None:
    """A key function that fails is told like a transform."""
    target = table("crm.people", "id uuid pk", "name text", "big text null")
    made = transform(key=KeyMap(function, sequence="public.s"), **ONE)(plain)
    mapping = compile_mappings((), [made], OLD, catalog(target), forward=True).all[0]
    assert mapping.key_map is not None
    assert mapping.key_map.function is not None
    with pytest.raises(ReplicatorError, match=told) as caught:
        mapping.key_map.function((b"7",))
    assert ("public.users", ("7",)) == (caught.value.table, caught.value.key)
