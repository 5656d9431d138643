"""What a type checker says of the public API: users see mistakes in their editor."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
GOOD = """
    from collections.abc import Iterable, Iterator
    from uuid import UUID
    from replicator import Aggregate, KeyMap, RawText, Row, transform

    @transform(old="public.a", upgraded="crm.a", key=KeyMap(lambda number: UUID(int=number), sequence="public.s"))
    def one(row: Row) -> Row:
        return row.rename(company="name").drop("phone").set(phone=row["phone"], raw=row.raw("phone"))

    @one.inverse
    def one_back(row: Row) -> Row | None:
        return None

    @transform(old={"public.b": ("x", "y"), "public.c": ["x", "y"]}, upgraded="crm.b", references={"one_id": one})
    def many(aggregate: Aggregate) -> Iterator[Row]:
        yield aggregate.root
        yield from aggregate["public.c"]

    reveal_type(one)
    reveal_type(one(Row.of("public.a", id=1)))
    reveal_type(one_back)
    reveal_type(many)
    reveal_type(many.name)
    row = Row.of("public.a", {"odd name": 1}, id=1)
    reveal_type(row["id"])
    reveal_type(row.raw("id"))
    reveal_type(row.set(id=2))
    aggregate = Aggregate.of(row, {"public.c": [row]}, key="id")
    reveal_type(aggregate.root)
    reveal_type(aggregate["public.c"])
    reveal_type(aggregate.key)
"""
REVEALED = [
    "Transform[Row, Row]",
    "Row",
    "def (row: Row) -> Row | None",
    "Transform[Aggregate, Iterator[Row]]",
    "str",
    "Any",
    "RawText | None",
    "Row",
    "Row",
    "tuple[Row, ...]",
    "tuple[Any, ...]",
]
BAD = """
    from replicator import Aggregate, KeyMap, Row, transform

    @transform(old="public.a", upgraded="crm.a")
    async def one(row: Row) -> Row:  # E
        return row

    @transform(old="public.a", upgraded="crm.a")
    def two(row: Row) -> dict[str, int]:  # E
        return {}

    @transform(old="public.a", upgraded="crm.a")
    def three(row: str) -> Row:  # E
        return Row.of(row)

    transform(old="public.a")  # E
    transform(old=5, upgraded="crm.a")  # E
    Row.of("public.a")["id"] = 5  # E
    Row.of("public.a").rename(company=5)  # E
    Row.of("public.a").table = "crm.a"  # E
"""


def mypy(tmp_path: Path, text: str) -> tuple[list[str], str]:
    """The file's lines, and what mypy says of it."""
    path = tmp_path / "crm.py"
    path.write_text(dedent(text))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--config-file=", f"--cache-dir={tmp_path}"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False, cwd=ROOT)
    return path.read_text().splitlines(), done.stdout + done.stderr


@pytest.mark.slow
def test_types_are_revealed(tmp_path: Path) -> None:
    """A transform keeps its function's types, and rows, aggregates and values have theirs."""
    _, output = mypy(tmp_path, GOOD)
    revealed = re.findall(r'Revealed type is "(.*)"', output)
    shortened = [re.sub(r"[\w.]+\.(\w+)", r"\1", text) for text in revealed]
    assert "Success" in output, output
    assert REVEALED == shortened


@pytest.mark.slow
def test_mistakes_are_seen(tmp_path: Path) -> None:
    """Async functions, wrong results and arguments, and assignments to rows are errors for a type checker."""
    lines, output = mypy(tmp_path, BAD)
    expected = {number for number, line in enumerate(lines, 1) if line.endswith("# E")}
    # mypy reports what a decorator doesn't take at the decorator's line, one above.
    found = {int(number) for number in re.findall(r"crm\.py:(\d+): error", output)}
    decorated = {number + 1 for number in found if lines[number - 1].startswith("@")}
    assert expected == {number for number in found if not lines[number - 1].startswith("@")} | decorated, output
