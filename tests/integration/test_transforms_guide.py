"""docs/transforms.md is true: its schemas, its transforms, its connector and its tests work together."""

import re
import sys
from pathlib import Path

import pytest

from replicator.compile import compile_mappings
from replicator.config import load_connector
from replicator.events import Relation
from replicator.lawcheck import LawCheck
from replicator.mapping import SourceAggregate, SourceRows
from replicator.postgres.catalog import read_catalog
from replicator.postgres.session import connect
from replicator.tables import Catalog, TableName
from replicator.transforms import load_transforms
from tests.fix_postgres import Database

GUIDE = (Path(__file__).parents[2] / "docs" / "transforms.md").read_text()
BLOCKS = re.findall(r"^```(python|sql|yaml)\n(?:#|--) (\S+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)

COLUMNS = ("id", "name", "role", "deleted_at")
USERS = [
    SourceAggregate((b"%d" % at,), (SourceRows(Relation(TableName("public", "users"), COLUMNS), [values]),))
    for at, values in enumerate([(b"0", b"Ada Lovelace", b"admin", None), (b"1", b"Bob", b"viewer", None)])
]


def block(name: str) -> str:
    """All blocks of this name, one after another."""
    return "\n".join(text for _, found, text in BLOCKS if found == name)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The guide's files."""
    for _, name, _ in BLOCKS:
        if "." in name:
            (tmp_path / name).write_text(block(name))
    return tmp_path


async def read(database: Database) -> Catalog:
    connection = await connect(database.dsn, "test")
    try:
        return await read_catalog(connection)
    finally:
        await connection.close()


async def test_the_guide_compiles_and_keeps_the_laws(
    shop: Path, old_database: Database, upgraded_database: Database
) -> None:
    """The guide's transforms and connector fit its schemas in both directions, and the round trip holds."""
    old_database.execute(block("old"))
    upgraded_database.execute(block("upgraded"))
    old, upgraded = await read(old_database), await read(upgraded_database)
    environment = {"OLD_DSN": old_database.dsn, "UPGRADED_DSN": upgraded_database.dsn}
    connector = load_connector(shop / "shop.yaml", environment)
    assert connector.transforms is not None
    transforms = load_transforms(connector.transforms)
    names = {}
    for forward in (True, False):
        mappings = compile_mappings(connector.tables, transforms, old, upgraded, forward=forward)
        names[forward] = [mapping.name for mapping in mappings.all]
    assert 5 == len(names[True])
    assert names[True] == names[False]
    laws = LawCheck(connector.tables, transforms, old, upgraded, seed=1)
    for mapping in laws.mappings:
        report = laws.check(mapping, USERS if mapping.name == "public.users" else (), 100)
        assert (mapping.name, ()) == (mapping.name, report.failures)
        assert report.generated > report.filtered


@pytest.mark.parametrize("name", ["test_rows.py", "test_shop.py"])
def test_the_guides_tests_pass(shop: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guide asserts holds."""
    monkeypatch.syspath_prepend(str(shop))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    exec(compile(block(name), name, "exec"), {})  # noqa: S102 - the guide's own code
    sys.modules.pop("shop", None)


def test_the_guide_loads_what_shares_a_table(shop: Path) -> None:
    """The example of `owns` is a valid declaration."""
    assert "kind = 'customer'" == load_transforms(shop / "parties.py")[0].owns
