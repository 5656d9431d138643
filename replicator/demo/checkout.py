"""The files of the example: its connector and the SQL of both sides."""

import os
import re
from pathlib import Path

import psycopg

CONNECTOR = Path("connectors/crm.yaml")
SCHEMAS = Path("schemas/crm")

_VERSION = re.compile(r"V(\d+)__\w+\.sql\Z")


class CheckoutError(Exception):
    """The example's files aren't where they can be found."""


def find_root() -> Path:
    """The folder that has the example: above this package, or above where one stands.

    Raises:
        CheckoutError: the package was installed without its repository.

    """
    for start in (Path(__file__).resolve().parent, Path.cwd()):
        for folder in (start, *start.parents):
            if (folder / CONNECTOR).is_file() and (folder / SCHEMAS).is_dir():
                return folder
    raise CheckoutError(
        f"the demo needs {CONNECTOR} and {SCHEMAS}/ of the repository, which an installed package doesn't have: "
        "run it in a checkout (`make demo`)"
    )


def migrations(folder: Path) -> list[Path]:
    """The versioned SQL files of a folder, `V1__what.sql` first."""
    found = {int(match[1]): path for path in folder.iterdir() if (match := _VERSION.match(path.name))}
    return [found[version] for version in sorted(found)]


def migrate(dsn: str, folder: Path) -> None:
    """Run a folder's migrations on an empty database, each in a transaction of its own.

    Raises:
        psycopg.Error: a statement failed.

    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        for path in migrations(folder):
            with connection.transaction():
                connection.execute(os.fsencode(path.read_text()))
