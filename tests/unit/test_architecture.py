"""Who may import what, beyond the layers that import-linter checks (drawn in pyproject.toml)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "replicator"

# A library, or a part of ours, and the only modules that may import it. A package covers what is in it.
ALLOWED = {
    "psycopg": {"replicator.postgres", "replicator.rows", "replicator.demo"},
    "pydantic": {"replicator.config"},
    "yaml": {"replicator.config"},
    "confluent_kafka": {"replicator.kafka"},
    "fastavro": set(),  # the tests compare our own with it
    "great_expectations": set(),  # runs as a process of its own: replicator/expectations/suite.py
    "sqlalchemy": set(),
    "replicator.expectations": {"replicator.expectations", "replicator.daemon"},
    "replicator.postgres": {"replicator.postgres", "replicator.daemon"},
    "replicator.kafka": {"replicator.kafka", "replicator.daemon"},
    "replicator.routers": {"replicator.routers", "replicator.daemon"},
}


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imports() -> Iterator[tuple[str, str]]:
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((module, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("imported", ALLOWED)
def test_only_its_owners_import(imported: str) -> None:
    """A library, and every adapter, is known in one place; the engine sees only ports."""
    strangers = {
        f"{module} imports {name}"
        for module, name in imports()
        if within(name, {imported}) and not within(module, ALLOWED[imported])
    }
    assert set() == strangers
