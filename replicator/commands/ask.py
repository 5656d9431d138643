"""Asking the running daemon over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote

from replicator.config import Connector
from replicator.errors import ErrorKind, ReplicatorError

TIMEOUT_SECONDS: Final = 2.0
_UNSPECIFIED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def ask_daemon(connector: Connector) -> dict[str, Any] | None:
    """The connector's document from the daemon that runs it on this machine; None where none answers.

    Raises:
        ReplicatorError: CONFIG, when something answers and refuses the token.

    """
    listen = connector.http.listen
    if listen.port == 0:
        return None
    host = _UNSPECIFIED.get(listen.host, listen.host)
    place = f"[{host}]:{listen.port}" if ":" in host else f"{host}:{listen.port}"
    request = urllib.request.Request(f"http://{place}/api/v1/status?connector={quote(connector.name)}")
    if connector.http.token is not None:
        request.add_header("Authorization", f"Bearer {connector.http.token.reveal()}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business here
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            found = json.load(answer)["connectors"]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 401:
            raise ReplicatorError(
                f"what listens on {place} refuses this connector's http.token",
                kind=ErrorKind.CONFIG,
                hint="Use the token that the running daemon was started with",
            ) from error
        return None  # another daemon's address, or another program's
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nobody there, or nobody of ours
    return {**found[0]} if found else None
