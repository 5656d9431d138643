"""One listening address: opened before the connectors start, closed after they have ended."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from aiohttp import web

from replicator.errors import ErrorKind, ReplicatorError

SHUTDOWN_SECONDS: Final = 2.0
"""How long a request in progress may take at the end."""


class ControlServer:
    """An application on one address; as a context manager it serves within the block.

    Args:
        app: see `create_app`.
        host: a name or an address.
        port: 0 takes a free one, see `url`.

    """

    def __init__(self, app: web.Application, host: str, port: int) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        self._host = host
        self._port = port

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ReplicatorError: CONFIG when the address is taken, not this machine's, or needs rights.

        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ReplicatorError(
                f"can't listen on {self._host}:{self._port}: {error.strerror or error}",
                kind=ErrorKind.CONFIG,
                hint="Give http.listen another port (0 takes a free one), or end the process that has it.",
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, event streams included."""
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it is reached, with the port that it got."""
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
