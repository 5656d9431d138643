"""Every way in which connector, transforms and catalogs don't fit together."""

from typing import Any

import pytest

from replicator import KeyMap, transform
from replicator.compile import CompileError
from replicator.errors import ErrorKind
from replicator.tables import TableName
from tests.compiling import CHANGED, Entry, compiled, identity, orders, problems
from tests.shapes import catalog, table

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
