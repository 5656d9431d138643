"""Connector files of tests."""

import json
import socket
from pathlib import Path
from typing import Any

from tests.fix_postgres import Database


def free_address() -> str:
    """A loopback address that is free (until somebody else takes it)."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def write_connector(
    folder: Path, old: Database | str, upgraded: Database | str, *, name: str = "crm", **sections: Any
) -> Path:
    """Write NAME.yaml for two databases (or DSNs): all tables of public, unless `tables` says otherwise."""
    document = {
        "name": name,
        "old": {"dsn": old if isinstance(old, str) else old.dsn},
        "upgraded": {"dsn": upgraded if isinstance(upgraded, str) else upgraded.dsn},
        "tables": [{"old": "public.*"}],
        "http": {"listen": free_address()},
        **sections,
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(document, indent=2))  # JSON is YAML
    return file
