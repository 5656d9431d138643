"""The daemon: all connectors of one call, their HTTP addresses, signals, systemd, and the status line.

One connector's end is not the daemon's: with all of them failed it still answers /livez, /metrics and the API, so that
an operator sees why. It ends on a signal, or, with `until_caught_up`, once every connector has caught up or failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from replicator import __version__
from replicator.control import ControlServer, create_app
from replicator.daemon.findings import FindingsPages
from replicator.daemon.progress import follow_progress
from replicator.daemon.report import log_status, summary_line
from replicator.daemon.runner import Attempt, ConnectorRunner
from replicator.telemetry import ConnectorStatus, State

if TYPE_CHECKING:
    from replicator.config import Connector
    from replicator.daemon.notify import Notifier

STATUS_SECONDS: Final = 10.0
"""Between two status lines of a connector: the only recurring line at INFO."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

MakeAttempt = Callable[["Connector"], Attempt]


@dataclass(frozen=True)
class RunOptions:
    """How the daemon runs.

    Attributes:
        until_caught_up: whether the attempts end by themselves; the daemon then ends with them.
        progress: draw a progress bar on the terminal while a backfill runs.

    """

    until_caught_up: bool = False
    progress: bool = False


class Daemon:
    """All connectors of one process.

    Args:
        connectors: at least one; their names differ.
        make_attempt: gives a connector its lifecycle.
        notifier: of the service manager.
        options: see `RunOptions`.

    """

    def __init__(
        self, connectors: Sequence[Connector], make_attempt: MakeAttempt, notifier: Notifier, options: RunOptions
    ) -> None:
        now = time.time()
        self._connectors = tuple(connectors)
        self._notifier = notifier
        self._options = options
        self._signalled = asyncio.Event()
        self._log = structlog.get_logger("replicator.daemon")
        self.runners = tuple(
            ConnectorRunner(ConnectorStatus.new(one.name, now), make_attempt(one), one.apply.retry)
            for one in connectors
        )
        self.statuses = tuple(runner.status for runner in self.runners)

    async def run(self) -> int:
        """Run until it ends.

        Returns:
            The exit code: 0, or 1 when a connector failed or was superseded.

        Raises:
            ReplicatorError: CONFIG, when an address can't be listened on.

        """
        async with AsyncExitStack() as stack:
            await self._listen(stack)
            stack.enter_context(self._signals())
            self._notifier.ready()
            self._log.info("daemon started", version=__version__, connectors=[one.name for one in self.statuses])
            async with self._background():
                await self._run_connectors()
            self._notifier.stopping()
        return 0 if all(one.state is State.STOPPED for one in self.statuses) else 1

    async def _run_connectors(self) -> None:
        async with asyncio.TaskGroup() as group:
            for runner in self.runners:
                group.create_task(runner.run(), name=f"connector {runner.status.name}")
        if not self._options.until_caught_up:
            await self._signalled.wait()

    async def _listen(self, stack: AsyncExitStack) -> None:
        addresses = dict.fromkeys(str(one.http.listen) for one in self._connectors)
        for address in addresses:
            here = [at for at, one in enumerate(self._connectors) if str(one.http.listen) == address]
            http = self._connectors[here[0]].http
            app = create_app(
                [self.statuses[at] for at in here],
                clock=time.time,
                version=__version__,
                token=None if http.token is None else http.token.reveal(),
                findings=FindingsPages([self._connectors[at] for at in here]).read,
            )
            server = await stack.enter_async_context(ControlServer(app, http.listen.host, http.listen.port))
            self._log.info("listening", url=server.url, connectors=[self._connectors[at].name for at in here])

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    @contextlib.asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        """Status lines, watchdog and progress bar beside the connectors."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._report())]
            if self._notifier.watchdog_seconds is not None:
                tasks.append(group.create_task(self._watchdog(self._notifier.watchdog_seconds / 2)))
            if self._options.progress:
                tasks.append(group.create_task(follow_progress(self.statuses)))
            yield
            for task in tasks:
                task.cancel()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            now = time.time()
            self._notifier.status(summary_line(self.statuses, now))
            for one in self.statuses:
                log_status(one, now)

    async def _watchdog(self, seconds: float) -> None:
        while True:
            self._notifier.watchdog()
            await asyncio.sleep(seconds)

    def _on_signal(self, number: signal.Signals) -> None:
        """The first signal drains; the second ends the process at once, which exactly-once bears like any kill."""
        if self._signalled.is_set():
            self._log.warning("stopping at once", signal=number.name)
            sys.stderr.flush()
            os._exit(128 + number)
        self._log.info("draining", signal=number.name, hint="a second signal stops at once")
        self._notifier.stopping()
        self._signalled.set()
        for runner in self.runners:
            runner.stop.set()
