"""The two databases of a connector, and the names of its feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replicator.postgres.session import configured

if TYPE_CHECKING:
    from replicator.config import Connector, Database

FORWARD: Final = "forward"
REVERSE: Final = "reverse"


def old_dsn(connector: Connector) -> str:
    """The old database's connection string, with the connector's limits.

    Raises:
        ReplicatorError: CONFIG.

    """
    return _dsn(connector.old)


def upgraded_dsn(connector: Connector) -> str:
    """The upgraded database's, likewise."""
    return _dsn(connector.upgraded)


def _dsn(database: Database) -> str:
    limit = database.statement_timeout
    return configured(
        database.dsn.reveal(),
        connect_timeout=database.connect_timeout.total_seconds(),
        statement_timeout=None if limit is None else limit.total_seconds(),
    )
