"""`Row`: reading, changing and comparing rows."""

from collections.abc import Callable
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from replicator.events import UNCHANGED, Value
from replicator.mapping import NeedsFetch
from replicator.rows import Aggregate, RawText, Row, RowError, Shape, source_row, write_row

OIDS = {name: psycopg.adapters.types.get_oid(name) for name in ("int4", "text", "numeric", "date", "jsonb", "int4[]")}


def row(**columns: tuple[str, Value]) -> Row:
    """A row as the source has it: name=(type, text)."""
    shape = Shape("public.accounts", {name: OIDS[kind] for name, (kind, _) in columns.items()})
    return source_row({name: value for name, (_, value) in columns.items()}, shape)


ACCOUNT = row(
    id=("int4", b"7"), company=("text", b"Ada & Co"), balance=("numeric", b"1.50"), doc=("jsonb", b'{"a": 1}')
)


def test_columns_are_decoded_as_psycopg_does() -> None:
    """Reading a column gives psycopg's Python value."""
    assert [7, "Ada & Co", Decimal("1.50"), {"a": 1}] == list(ACCOUNT.values())


def test_raw_is_the_text() -> None:
    """`raw` gives what PostgreSQL printed, and None for NULL."""
    assert ("1.50", None) == (ACCOUNT.raw("balance"), row(a=("text", None)).raw("a"))


def test_a_missing_column_lists_those_that_there_are() -> None:
    """A misspelled column is told with the columns of the row, and the likeliest."""
    with pytest.raises(KeyError, match=r"no column compny in public\.accounts; did you mean company") as caught:
        ACCOUNT["compny"]
    assert "id, company, balance, doc" in str(caught.value)


@pytest.mark.parametrize("change", [lambda r: r.drop("nope"), lambda r: r.keep("nope"), lambda r: r.rename(nope="x")])
def test_changes_name_columns_that_exist(change: Callable[[Row], Row]) -> None:
    """Dropping, keeping or renaming a column that isn't there is an error, not a no-op."""
    with pytest.raises(KeyError, match="no column nope"):
        change(ACCOUNT)


def test_every_change_returns_a_new_row() -> None:
    """A row never changes: every method leaves the row that it was called on as it was."""
    before = {name: ACCOUNT.raw(name) for name in ACCOUNT}
    ACCOUNT.set(company="x", fresh=1)
    ACCOUNT.rename(company="name")
    ACCOUNT.drop("company")
    ACCOUNT.keep("id")
    ACCOUNT.to("crm.accounts")
    assert before == {name: ACCOUNT.raw(name) for name in ACCOUNT}
    assert ACCOUNT.table is None


@pytest.mark.parametrize(
    "assign", ["r['id'] = 1", "del r['id']", "r.fresh = 1", "r.table = 'a.b'", "r.pop('id')", "r.update(id=1)"]
)
def test_a_row_takes_no_assignment(assign: str) -> None:
    """No operation of a mutable mapping works on a row."""
    with pytest.raises((TypeError, AttributeError)):
        exec(assign, {"r": ACCOUNT})  # noqa: S102 - statements of this test


def test_containers_in_a_row_are_copies() -> None:
    """Changing a document in place, after it was set or read, changes no row."""
    document = {"tags": ["a"]}
    made = Row.of("a.b", doc=document)
    document["tags"].append("b")
    made["doc"]["tags"].append("c")
    assert {"tags": ["a"]} == made["doc"]


def test_rename_keeps_type_and_text() -> None:
    """A renamed column is still decoded by its own type, however often it is renamed, and swapped ones don't mix."""
    renamed = ACCOUNT.rename(balance="amount").rename(amount="total").rename(id="doc", doc="id")
    assert (Decimal("1.50"), 7, {"a": 1}) == (renamed["total"], renamed["doc"], renamed["id"])
    assert "balance" not in renamed


def test_rename_overwrites_nothing() -> None:
    """Renaming onto a column that is there would lose it, so it is refused."""
    with pytest.raises(ValueError, match="has a column id already"):
        ACCOUNT.rename(company="id")


def test_mapping_protocol() -> None:
    """A row is a mapping: iteration, length, membership, get."""
    assert ["id", "company", "balance", "doc"] == list(ACCOUNT)
    assert (4, True, False, "none") == (len(ACCOUNT), "id" in ACCOUNT, "x" in ACCOUNT, ACCOUNT.get("x", "none"))


def test_rows_compare_by_value() -> None:
    """Equal are rows of one table with equal values, whatever their text; a mapping compares with the values."""
    assert row(a=("numeric", b"1.0")) == row(a=("numeric", b"1.00"))
    assert row(a=("text", b"1.0")) != row(a=("text", b"1.00"))
    assert row(a=("jsonb", b'{"x":1,"y":2}')) == row(a=("jsonb", b'{"y": 2, "x": 1}'))
    assert Row.of("a.b", x=1) == Row.of("a.b", x=1)
    assert Row.of("a.b", x=1) != Row.of("a.c", x=1)
    assert {"x": 1} == Row.of("a.b", x=1)
    assert row(a=("int4", b"1")).set(b=2) == row(a=("int4", b"1"), b=("int4", b"2"))


def test_repr_shows_no_value() -> None:
    """What a log or a traceback shows of rows and aggregates are names and counts."""
    aggregate = Aggregate.of(Row.of("a.b", id=1, secret="hush"), {"a.c": [Row.of("a.c", secret="hush")]}, key="id")
    assert "<Row public.accounts(id, company, balance, doc)>" == repr(ACCOUNT)
    assert "<Aggregate a.b: 1, a.c: 1>" == repr(aggregate)


def test_an_unsent_value_is_never_seen() -> None:
    """Reading a column that the change didn't carry asks for the row, past any `except Exception`; passing it on
    doesn't.
    """
    big = row(id=("int4", b"1"), big=("text", UNCHANGED)).rename(big="large")
    for read in (lambda: big["large"], lambda: big.raw("large"), lambda: big.get("large")):
        with pytest.raises(NeedsFetch) as caught:
            read()
        assert "big" == caught.value.column
    assert not issubclass(NeedsFetch, Exception)
    assert {"large": UNCHANGED} == write_row(big.drop("id"), {"large": OIDS["text"]})


@pytest.mark.parametrize("text", [b"infinity", b"0044-03-15 BC", b"12024-01-01"])
def test_a_value_that_python_lacks_names_raw(text: bytes) -> None:
    """A date that Python can't hold is an error that tells how to get its text, and doesn't tell the value."""
    with pytest.raises(ValueError, match=r"column day: .* row.raw\('day'\) gives its text") as caught:
        row(day=("date", text))["day"]
    assert text.decode() not in str(caught.value)
    assert caught.value.__cause__ is None


def test_untouched_columns_keep_their_bytes() -> None:
    """What a transform doesn't touch goes out as it came in, object for object."""
    texts = {"a": b"\xc3\xa9", "b": b"NaN", "c": b"infinity", "d": None}
    made = source_row(dict(texts), Shape("t", {})).rename(a="x").set(e=1).to("a.b")
    written = write_row(made, {"x": 0, "b": OIDS["numeric"], "c": OIDS["date"], "d": 0, "e": OIDS["int4"]})
    assert written["x"] is texts["a"]
    assert {"x": b"\xc3\xa9", "b": b"NaN", "c": b"infinity", "d": None, "e": b"1"} == written


def test_columns_are_written_in_the_order_of_the_table() -> None:
    """Rows with the same columns have them in the same order, whatever the transform did first."""
    oids = {"a": 0, "b": 0}
    assert list(write_row(Row.of("x.y", b=1, a=2), oids)) == list(write_row(Row.of("x.y", a=1, b=2), oids))


def test_row_of_takes_any_name() -> None:
    """Columns that are no Python identifiers are given as a mapping."""
    assert {"weird col", "a"} == set(Row.of("x.y", {"weird col": 1}, a=2))


@pytest.mark.parametrize("name", ["crm", "a.b.c", "", "crm."])
def test_tables_are_qualified(name: str) -> None:
    """A table is always named with its schema."""
    with pytest.raises(RowError, match=r"schema\.table"):
        Row.of(name)


def test_raw_text_is_written_as_it_stands() -> None:
    """What `raw` gave can be set again, for any type of column."""
    made = ACCOUNT.set(copy=ACCOUNT.raw("doc"), also=RawText('{"b": 2}'))
    assert {"copy": b'{"a": 1}', "also": b'{"b": 2}'} == write_row(
        made.keep("copy", "also"), {"copy": OIDS["jsonb"], "also": OIDS["jsonb"]}
    )


def test_aggregate_gives_rows_by_table() -> None:
    """An aggregate knows its root, its key, and the rows of each table; an unknown table is told."""
    note = Row.of("public.notes", id=1, order_id=5)
    order = Aggregate.of(Row.of("public.orders", id=5), {"public.notes": [note], "public.tags": ()}, key="id")
    assert (5,) == order.key
    assert ((note,), ()) == (order["public.notes"], order["public.tags"])
    with pytest.raises(KeyError, match=r"no table public\.items in this aggregate"):
        order["public.items"]


def test_a_row_is_not_made_by_hand() -> None:
    """`Row(...)` says how to make one."""
    with pytest.raises(TypeError, match=r"Row\.of"):
        Row()
    with pytest.raises(TypeError, match=r"Aggregate\.of"):
        Aggregate()


def test_uuid_of_a_row_made_by_hand() -> None:
    """A value that was set comes back as the object that it was."""
    value = UUID(int=5)
    assert value is Row.of("a.b", id=value)["id"]
