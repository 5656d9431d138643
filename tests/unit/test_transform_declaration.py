"""The decorator and the loading of files: what is accepted, and how mistakes are told."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from replicator import Aggregate, KeyMap, Row, transform
from replicator.errors import ErrorKind, ReplicatorError
from replicator.tables import TableName
from replicator.transforms import DeclaredReference, DeclaredSide, load_transforms

HEAD = "from replicator import Aggregate, KeyMap, Row, transform\n"
PLAIN = HEAD + "@transform(old='public.a', upgraded='crm.a')\ndef a(row): return row\n"


def write(folder: Path, text: str, name: str = "crm.py") -> Path:
    path = folder / name
    path.write_text(dedent(text))
    return path


def test_a_transform_is_its_function() -> None:
    """A transform can be called and tested like the function that it was made of, and keeps its name and docstring."""

    @transform(old="public.a", upgraded="crm.a")
    def account(row: Row) -> Row:
        """Make it upper."""
        return row.set(name=row["name"].upper())

    @account.inverse
    def account_back(row: Row) -> Row:
        return row.set(name=row["name"].lower())

    assert {"name": "ADA"} == account(Row.of("public.a", name="ada"))
    assert {"name": "ada"} == account_back(Row.of("crm.a", name="ADA"))
    assert ("account", "Make it upper.") == (account.__name__, account.__doc__)  # type: ignore[attr-defined]  # update_wrapper's
    assert "public.a" == account.name


def test_sides_references_and_the_rest() -> None:
    """All arguments arrive: tables with simple and composite keys, references of either form, lossy, predicates."""

    @transform(old="public.orders", upgraded="crm.orders", key=KeyMap(int, sequence="public.s"))
    def orders(row: Row) -> Row:
        return row

    @transform(
        old={"public.a": ("x", "y"), "public.b": ["ax", "ay"]},
        upgraded='crm."odd.name"',
        owns="kind = 'a'",
        owns_old="NOT dead",
        lossy="fax",
        references={
            "order_id": orders,
            "parent": "public.a",
            "crm.odd.order_ref": (orders, "public.b.order_no"),
            ("t", "n"): ("public.a", ("tt", "nn")),
        },
        name="odd",
    )
    def odd(aggregate: Aggregate) -> Row:
        return aggregate.root

    a, b = TableName("public", "a"), TableName("public", "b")
    assert (DeclaredSide(a, ("x", "y")), DeclaredSide(b, ("ax", "ay"))) == odd.old
    assert (DeclaredSide(TableName("crm", "odd.name"), ()),) == odd.upgraded
    assert ("kind = 'a'", "NOT dead", frozenset({"fax"}), "odd") == (odd.owns, odd.owns_old, odd.lossy, odd.name)
    assert (
        DeclaredReference(("order_id",), ("order_id",), None, None, "public.orders"),
        DeclaredReference(("parent",), ("parent",), None, None, "public.a"),
        DeclaredReference(("order_no",), ("order_ref",), b, TableName("crm", "odd"), "public.orders"),
        DeclaredReference(("tt", "nn"), ("t", "n"), None, None, "public.a"),
    ) == odd.references


async def async_function(row: Row) -> Row:
    return row


def two_arguments(row: Row, other: Row) -> Row:
    return row or other


def takes_row(row: Row) -> Row:
    return row


GOOD: dict[str, Any] = {"old": "public.a", "upgraded": "crm.a"}
BAD: list[tuple[Any, dict[str, Any], str]] = [
    (async_function, GOOD, "must not be async"),
    (two_arguments, GOOD, "takes exactly one argument"),
    (dict, GOOD, "expected a function"),
    (5, GOOD, "expected a function"),
    (takes_row, GOOD | {"old": "accounts"}, r"old= 'accounts' is not a table name"),
    (takes_row, GOOD | {"old": {}}, "old= expected"),
    (takes_row, GOOD | {"old": 5}, "old= expected"),
    (takes_row, GOOD | {"upgraded": {"crm.a": ()}}, "needs the column"),
    (takes_row, GOOD | {"upgraded": {"crm.a": 5}}, "expected names of columns"),
    (takes_row, GOOD | {"upgraded": {"crm.a": "x", "crm.b": ("x", "y")}}, r"2 key column\(s\), its root crm.a has 1"),
    (takes_row, GOOD | {"upgraded": {"crm.a": "x", '"crm".a': "x"}}, "names a table twice"),
    (takes_row, GOOD | {"old": {"public.a": "x", "public.b": "x"}}, "takes an Aggregate, not a Row"),
    (takes_row, GOOD | {"owns": ""}, "owns= expected an SQL predicate"),
    (takes_row, GOOD | {"lossy": 5}, "lossy= expected"),
    (takes_row, GOOD | {"lossy": ("a", "a")}, "names a column twice"),
    (takes_row, GOOD | {"key": int}, "expected a KeyMap, not type"),
    (takes_row, GOOD | {"name": ""}, "name= expected"),
    (takes_row, GOOD | {"references": ["x"]}, "references= expected"),
    (takes_row, GOOD | {"references": {"x": 5}}, "expected a transform, or the name"),
    (takes_row, GOOD | {"references": {"x": ("public.a",)}}, r"expected \(transform, 'old column'\)"),
    (takes_row, GOOD | {"references": {("x", "y"): ("public.a", "z")}}, "2 column"),
    (takes_row, GOOD | {"references": {("crm.a.x", "crm.b.y"): "public.a"}}, "columns of different tables"),
]


@pytest.mark.parametrize("function, declared, told", BAD)
def test_wrong_declarations_are_told(function: Any, declared: dict[str, Any], told: str) -> None:
    """A declaration that can't be meant is refused where it stands, with a reason."""
    with pytest.raises(ReplicatorError, match=told) as caught:
        transform(**declared)(function)
    assert ErrorKind.CONFIG is caught.value.kind


@pytest.mark.parametrize(
    "make, told",
    [
        (KeyMap, "function that makes the upgraded key"),
        (lambda: KeyMap(int, upgraded_sequence="crm.s"), "function that makes the upgraded key"),
        (lambda: KeyMap(int, sequence="public.s", inverse=int), "two ways to the same"),
        (lambda: KeyMap(int, sequence="s"), "sequence= 's' is not"),
        (lambda: KeyMap("public.s"), "isn't callable"),  # type: ignore[arg-type]  # a slip
    ],
)
def test_wrong_key_maps_are_told(make: Callable[[], KeyMap], told: str) -> None:
    """A KeyMap says how each side's keys are made, once."""
    with pytest.raises(Exception, match=told):
        make()


def test_one_inverse() -> None:
    """A second inverse is refused: which one would it be?"""

    @transform(**GOOD)
    def account(row: Row) -> Row:
        return row

    account.inverse(takes_row)
    with pytest.raises(ReplicatorError, match="has an inverse already: takes_row"):
        account.inverse(takes_row)


def test_files_are_loaded_with_what_stands_beside_them(tmp_path: Path) -> None:
    """A file's transforms come in order, with those of modules beside it; nothing of it stays importable."""
    write(tmp_path, HEAD + "@transform(old='public.b', upgraded='crm.b')\ndef b(row): return row\n", "sibling.py")
    path = write(tmp_path, f"import sibling\n{PLAIN}")
    before = list(sys.path)
    loaded = load_transforms(path)
    assert ["public.b", "public.a"] == [each.name for each in loaded]
    assert (before, False) == (sys.path, "sibling" in sys.modules)
    assert [] == list(tmp_path.glob("__pycache__"))


def test_modules_of_the_same_name_are_not_mixed_up(tmp_path: Path) -> None:
    """Two connectors may each have a module `money` beside their transforms."""
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        write(folder, f"NAME = 'crm.{name}'\n", "money.py")
        path = write(
            folder, f"{HEAD}import money\n@transform(old='public.a', upgraded=money.NAME)\ndef a(row): return row\n"
        )
        made.append(load_transforms(path)[0].upgraded[0].table.name)
    assert ["one", "two"] == made


def test_the_digest_follows_the_code(tmp_path: Path) -> None:
    """The digest is that of the source, of the modules beside it, and of the declaration; loading again keeps it."""
    write(tmp_path, "X = 1\n", "sibling.py")
    path = write(tmp_path, "import sibling\n" + PLAIN)
    first = load_transforms(path)[0].digest
    again = load_transforms(path)[0].digest
    write(tmp_path, "X = 2\n", "sibling.py")
    beside = load_transforms(path)[0].digest
    write(tmp_path, "import sibling\n" + PLAIN.replace("return row", "return None"))
    changed = load_transforms(path)[0].digest
    assert first == again
    assert 3 == len({first, beside, changed})


def test_the_digest_follows_what_the_code_works_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is read from a file, a value of the environment, also of a module beside: they count as the code
    does, whatever the order of sets; loading again in another process keeps it.
    """
    write(tmp_path, '{"viewer": ["read"]}', "roles.json")
    write(tmp_path, "import os\nREGION = os.environ['REGION']\nSEEN = {'a', 'b', 'c', frozenset('xyz')}\n", "places.py")
    read = (
        "import json, pathlib, places\nROLES = json.loads((pathlib.Path(__file__).parent / 'roles.json').read_text())\n"
    )
    path = write(tmp_path, read + PLAIN)
    code = "from pathlib import Path; from replicator.transforms import load_transforms; import sys; "
    code += f"sys.stdout.write(load_transforms(Path({str(path)!r}))[0].digest)"

    def elsewhere(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    monkeypatch.setenv("REGION", "north")
    first = load_transforms(path)[0].digest
    assert first == elsewhere("1") == elsewhere("2")
    write(tmp_path, '{"viewer": ["read", "write"]}', "roles.json")
    data = load_transforms(path)[0].digest
    monkeypatch.setenv("REGION", "south")
    environment = load_transforms(path)[0].digest
    assert 3 == len({first, data, environment})


def test_the_digest_follows_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of a package that the code uses may make other rows of the same ones."""
    path = write(tmp_path, "import click\nfrom yaml import safe_load\n" + PLAIN)
    found = {load_transforms(path)[0].digest}
    version = importlib.metadata.version
    for changed in ("click", "PyYAML"):

        def other(name: str, changed: str = changed) -> str:
            return "99" if name == changed else version(name)

        monkeypatch.setattr(importlib.metadata, "version", other)
        found.add(load_transforms(path)[0].digest)
    assert 3 == len(found)


BROKEN = [
    ("def a(:\n", r"crm\.py:1: syntax error"),
    ("x = 1\ny = x / 0\n", r"crm\.py:2: ZeroDivisionError: division by zero"),
    ("import nowhere_to_be_found\n", r"crm\.py:1: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    ("raise SystemExit(3)\n", r"crm\.py:1: SystemExit: 3"),
    ("x = 1\n", "declares no transform"),
    (HEAD + "@transform(old='public.a')\ndef a(row): return row\n", r"crm\.py:2: TypeError: .*'upgraded'"),
    (HEAD + "@transform(old='a', upgraded='crm.a')\ndef a(row): return row\n", r"crm\.py:2: transform a: old= 'a'"),
    (HEAD + "\nKeyMap()\n", r"crm\.py:3: KeyMap: give the function"),
    (PLAIN + PLAIN, r"crm\.py:5: transforms a \(crm.py:2\) and a \(crm.py:5\) both have one name, public.a"),
    (
        PLAIN + "@transform(old='public.a', upgraded='crm.b', name='other')\ndef b(row): return row\n",
        r"both claim old table public\.a. Say in owns_old=",
    ),
    (
        PLAIN + "@transform(old='public.b', upgraded='crm.a', owns='x')\ndef b(row): return row\n",
        r"both claim upgraded table crm\.a. Say in owns= of both",
    ),
]


@pytest.mark.parametrize("text, told", BROKEN)
def test_broken_files_are_told_with_their_line(tmp_path: Path, text: str, told: str) -> None:
    """Whatever is wrong with a file of transforms is told with file and line."""
    with pytest.raises(ReplicatorError, match=told) as caught:
        load_transforms(write(tmp_path, text))
    assert ErrorKind.CONFIG is caught.value.kind


def test_an_error_beside_is_told_there(tmp_path: Path) -> None:
    """An error in a module beside the file names that module's line."""
    write(tmp_path, "x = 1\nx.y\n", "sibling.py")
    with pytest.raises(ReplicatorError, match=r"sibling\.py:2: AttributeError"):
        load_transforms(write(tmp_path, "import sibling\n"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A path that leads nowhere is an error of the connector."""
    with pytest.raises(ReplicatorError, match="No such file"):
        load_transforms(tmp_path / "crm.py")


def test_shared_tables_need_predicates(tmp_path: Path) -> None:
    """Two transforms may write one table when each says which rows are its own."""
    path = write(
        tmp_path,
        HEAD
        + "".join(
            f"@transform(old='public.{n}', upgraded='crm.parties', owns='kind = {n}')\ndef {n}(row): return row\n"
            for n in "ab"
        ),
    )
    assert 2 == len(load_transforms(path))


def test_importing_replicator_is_light() -> None:
    """`import replicator` alone loads neither the driver nor anything else of ours."""
    import subprocess

    code = "import sys, replicator; print(sorted(m for m in sys.modules if m.startswith(('psycopg', 'replicator'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "['replicator']" == done.stdout.strip()
