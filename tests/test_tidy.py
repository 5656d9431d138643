"""House rules that no linter knows. Each test says which file breaks the rule."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = sorted((ROOT / "replicator").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
README = ROOT / "README.md"

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
VAGUE_NAMES = {"utils", "helpers", "common", "manager"}
BROAD = {"Exception", "BaseException"}
SLEEPS = {("time", "sleep"), ("asyncio", "sleep")}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nodes(paths: list[Path]) -> Iterator[tuple[Path, ast.AST]]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(), name_of(path))):
            yield path, node


def test_files_stay_short() -> None:
    """A file is read in one sitting."""
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in PRODUCT + TESTS}
    assert {} == {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX}


def test_functions_stay_short() -> None:
    """A function fits on a screen."""
    lengths = {
        f"{name_of(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, node in nodes(PRODUCT)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {} == {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX}


def test_modules_have_names_that_say_something() -> None:
    """A module that may hold anything soon does."""
    vague = [name_of(p) for p in PRODUCT + TESTS if VAGUE_NAMES & {p.stem, p.parent.name}]
    assert [] == vague


def test_only_the_daemon_catches_everything() -> None:
    """An error that nobody expected ends the feed, where the daemon reports it."""

    def catches_all(handler: ast.ExceptHandler) -> bool:
        caught = handler.type
        kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
        broad = any(kind is None or ast.unparse(kind) in BROAD for kind in kinds)
        return broad and not any(isinstance(n, ast.Raise) for n in handler.body)

    found = [
        f"{name_of(path)}:{node.lineno}"
        for path, node in nodes(PRODUCT)
        if isinstance(node, ast.ExceptHandler) and catches_all(node)
    ]
    assert [] == [place for place in found if not place.startswith(("replicator/daemon.py:", "replicator/daemon/"))]


def test_tests_do_not_sleep() -> None:
    """A test waits for a signal; a sleep is either too short or too long."""
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path, node in nodes(TESTS)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr) in SLEEPS
    ]
    assert [] == found


LINKS = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", README.read_text())


@pytest.mark.parametrize("link", LINKS)
def test_readme_links_lead_somewhere(link: str) -> None:
    """A relative link in the README names a file of this repository."""
    assert (ROOT / link).exists(), f"README.md links to {link}"
