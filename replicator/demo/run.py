"""`replicator demo`: a live database becomes another one of another shape, on this machine, in under a minute.

Two real servers (and a real Kafka between them, where one asks for it), an application that never stops writing, and
the real daemon in a process of its own. At the end every row of both sides is compared by code that shares nothing with
the product.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console

from replicator.demo.checkout import CONNECTOR, SCHEMAS, CheckoutError, find_root, migrate
from replicator.demo.compare import compare, links, orphans
from replicator.demo.kafka_parts.fetch import PartsError, fetch
from replicator.demo.lag import LagProbe
from replicator.demo.pipe import CONNECTORS, Pipe, Via
from replicator.demo.product import Product, ProductError
from replicator.demo.screen import SPARKS_MAX, Screen, new_console, new_screen
from replicator.demo.seed import count_rows, seed
from replicator.demo.servers import PostgresServer, ServerError, find_bindir, server_major
from replicator.demo.story import Step, Story
from replicator.demo.summary import Outcome, Streamed, show_summary
from replicator.demo.writer import Writer

SECONDS: Final = 15.0
ROWS: Final = 50_000
SESSIONS: Final = 4
TRANSACTIONS_PER_SECOND: Final = 200.0
STEP_SECONDS_MAX: Final = 180.0
POLL_SECONDS: Final = 0.1
INTERRUPTED: Final = 130
OLDER: Final = 15

# Nothing here must outlive a crash of the machine, and the lag isn't that of a laptop's disk.
_SETTINGS: Final = {"max_connections": "50", "shared_buffers": "64MB", "max_wal_size": "1GB"}


def run_demo(*, seconds: float = SECONDS, rows: int = ROWS, keep: bool = False, via: Via | None = None) -> int:
    """Run the demo and show it.

    Args:
        seconds: how long to stream before the application stops.
        rows: about how many the old database begins with.
        keep: leave servers and daemon running at the end, until Ctrl-C.
        via: by Kafka, whose topics this fills; None: straight from a replication slot.

    Returns:
        0; 1 on any difference or failure; 130 when it was interrupted. Nothing is left behind in any case.

    """
    console, story = new_console(), Story.of(kafka=via is not None)
    try:
        with _interruptible(), ExitStack() as stack:
            return _tell(console, story, stack, seconds=seconds, rows=rows, keep=keep, via=via)
    except KeyboardInterrupt:
        console.print("interrupted; nothing is left behind")
        return INTERRUPTED
    except (CheckoutError, PartsError, ProductError, ServerError, TimeoutError, psycopg.Error) as error:
        console.print(f"\nThe demo failed after {story.seconds:.1f} s.", style="bold red")
        console.out(str(error))
        return 1


def _tell(
    console: Console, story: Story, stack: ExitStack, *, seconds: float, rows: int, keep: bool, via: Via | None
) -> int:
    root = find_root()
    if via is not None:
        fetch(console.print)
    with new_screen(console, story) as screen:
        demo = _Demo(root, story, screen, stack, via)
        try:
            demo.prepare(rows)
            outcome = demo.migrate(seconds)
        except BaseException:
            story.fail()
            raise
    show_summary(console, outcome, root, demo.connector)
    if keep:
        demo.keep(console)
    demo.end()
    return 1 if outcome.differences else 0


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A request to end, and a terminal that is closed, are like Ctrl-C: everything is cleaned up."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@dataclass(slots=True)
class _Applied:
    """What the daemon had applied at a moment."""

    at: float
    rows: int
    transactions: int


class _Demo:
    """The acts of the story."""

    def __init__(self, root: Path, story: Story, screen: Screen, stack: ExitStack, via: Via | None) -> None:
        self.connector = CONNECTOR if via is None else CONNECTORS[via]
        self._root = root
        self._via = via
        self._story = story
        self._screen = screen
        self._stack = stack
        self._old = ""
        self._upgraded = ""
        self._daemon_runs = False
        self._product: Product
        self._writer: Writer

    def prepare(self, rows: int) -> None:
        """Servers, schemas, rows, and an application that writes."""
        self._begin(Step.SERVERS)
        older = None if self._via is None else find_bindir(OLDER)  # by Kafka, to show that it may be another version
        with ThreadPoolExecutor(2) as pool:
            making = [pool.submit(PostgresServer, bindir, settings=_SETTINGS) for bindir in (older, None)]
            old, upgraded = [self._stack.enter_context(one.result()) for one in making]
        self._finish(
            Step.SERVERS, " and ".join(f"{server_major(one.bindir)} on port {one.port}" for one in (old, upgraded))
        )

        self._begin(Step.SCHEMAS)
        self._old, self._upgraded = old.create_database("crm"), upgraded.create_database("crm")
        migrate(self._old, self._root / SCHEMAS / "old")
        migrate(self._upgraded, self._root / SCHEMAS / "upgraded")
        for table in seed(self._old, rows):
            self._story.note(Step.SCHEMAS, table)
            self._screen.update()
        self._finish(Step.SCHEMAS, f"{SCHEMAS}, {count_rows(self._old):,} rows")

        self._begin(Step.WRITER)
        self._writer = self._stack.enter_context(
            Writer(self._old, sessions=SESSIONS, transactions_per_second=TRANSACTIONS_PER_SECOND)
        )
        self._use(None)
        if self._via is not None:
            self._fill(self._via)

    def _use(self, pipe: Pipe | None) -> None:
        """The product, on the connector of this way."""
        settings = {} if pipe is None else pipe.settings
        self._product = self._stack.enter_context(
            Product(
                self._root,
                old_dsn=self._old,
                upgraded_dsn=self._upgraded,
                connector=self.connector,
                settings=settings,
            )
        )

    def _fill(self, via: Via) -> None:
        """Kafka and a registry, and who fills the topics, before anything is copied."""
        self._begin(Step.PIPE)
        pipe = Pipe(via)
        self._during(lambda: self._stack.enter_context(pipe).title)
        self._finish(Step.PIPE, pipe.title)
        self._use(pipe)
        self._begin(Step.FILL)
        filled_by = pipe.fill(self._product, self._old)
        self._finish(Step.FILL, f"by {filled_by}")

    def migrate(self, seconds: float) -> Outcome:
        """Copy, catch up, stream; then stop the application, drain, and compare."""
        self._begin(Step.PLAN, str(self.connector))
        self._during(lambda: self._product.run("plan"))
        self._finish(Step.PLAN, "nothing in the way")
        copied, copy_seconds = self._copy()
        links_before = links(self._upgraded)
        probe = self._stack.enter_context(LagProbe(self._old, self._upgraded))
        start = self._stream(seconds, probe)

        writer = self._writer
        self._begin(Step.DRAIN)
        writer.stop()
        lag = probe.finish(STEP_SECONDS_MAX)
        stopped = time.monotonic()
        written = f"{writer.transactions:,} transactions, {writer.rolled_back:,} rolled back"
        self._finish(Step.WRITER, written)
        self._during(self._wait)
        self._finish(Step.DRAIN, "everything is applied")
        end = self._applied()
        streamed = Streamed(end.rows - start.rows, end.transactions - start.transactions, stopped - start.at)

        self._begin(Step.COMPARE)
        outcome = Outcome(
            seconds=self._story.seconds,
            copied=copied,
            copy_seconds=copy_seconds,
            streamed=streamed,
            committed=writer.committed,
            rolled_back=writer.rolled_back,
            lag=lag,
            tables=compare(self._old, self._upgraded),
            orphans=orphans(self._upgraded),
            links_before=links_before,
            links_after=links(self._upgraded),
        )
        self._finish(Step.COMPARE, f"{outcome.rows:,} rows, {outcome.differences:,} differences")
        return outcome

    def keep(self, console: Console) -> None:
        """Wait for Ctrl-C."""
        console.print(f"old        psql {self._old}\nupgraded   psql {self._upgraded}")
        console.print(f"dashboard  http://{self._product.address}/\n\nCtrl-C ends it, and removes everything.")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()

    def end(self) -> None:
        """Stop the daemon as an operator would; servers and the rest go with the stack."""
        self._product.stop()

    def _copy(self) -> tuple[int, float]:
        """Start the daemon and follow it until both sides agree; returns rows copied and how long that took."""
        self._begin(Step.COPY)
        self._product.start()
        self._daemon_runs = True
        self._follow(Step.COPY, lambda status: status["state"] != "preparing", _copy_note)
        began = time.monotonic()
        self._follow(Step.COPY, lambda status: status["state"] != "copying", _copy_note)
        seconds = time.monotonic() - began
        backfill = (self._story.status or {}).get("backfill") or {}
        copied = int(backfill.get("rows_done", 0))
        self._finish(Step.COPY, f"{copied:,} rows")
        self._begin(Step.CATCH_UP)
        self._follow(Step.CATCH_UP, lambda status: status["state"] == "streaming", _applied_note)
        self._during(self._wait)  # streaming is a promise about the rows; the backlog may still be long
        self._finish(Step.CATCH_UP, _applied_note(self._story.status or {}))
        return copied, seconds

    def _wait(self) -> str:
        return self._product.run("wait", "--for", "caught-up", "--timeout", "60s")

    def _stream(self, seconds: float, probe: LagProbe) -> _Applied:
        start = self._applied()
        until = start.at + seconds

        def note(status: dict[str, Any]) -> str:
            probe.check()
            self._story.lag, self._story.lags = probe.result(), probe.newest(SPARKS_MAX)
            return f"{_applied_note(status)}; {max(0.0, until - time.monotonic()):.0f} s to go"

        self._begin(Step.STREAM)
        self._follow(Step.STREAM, lambda _: time.monotonic() >= until, note, seconds_max=seconds + STEP_SECONDS_MAX)
        self._finish(Step.STREAM, _applied_note(self._story.status or {}))
        return start

    def _follow(
        self,
        step: Step,
        done: Callable[[dict[str, Any]], bool],
        note: Callable[[dict[str, Any]], str],
        *,
        seconds_max: float = STEP_SECONDS_MAX,
    ) -> None:
        """Ask the daemon again and again, until it is done."""
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            status = self._product.status()
            self._story.hear(status)
            if status is not None:
                self._story.note(step, note(status))
                if done(status):
                    return
            self._breathe()
        raise ProductError(f"{step.value!r} took more than {seconds_max:.0f} s\n{self._product.log()}")

    def _applied(self) -> _Applied:
        status = self._product.status()
        if status is None:
            raise ProductError(f"the daemon doesn't answer\n{self._product.log()}")
        return _Applied(time.monotonic(), status["rows_applied"], status["transactions_applied"])

    def _during(self, work: Callable[[], str]) -> None:
        """Do something that takes a while, and keep the screen alive meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(work)
            while not result.done():
                if self._daemon_runs:
                    self._story.hear(self._product.status())
                self._breathe()
            result.result()

    def _breathe(self) -> None:
        self._writer.check()
        if self._story.running(Step.WRITER):
            self._story.note(Step.WRITER, f"{self._writer.transactions:,} transactions")
        self._screen.update()
        time.sleep(POLL_SECONDS)

    def _begin(self, step: Step, note: str = "") -> None:
        self._story.begin(step, note)
        self._screen.update()

    def _finish(self, step: Step, note: str) -> None:
        self._story.finish(step, note)
        self._screen.update()


def _copy_note(status: dict[str, Any]) -> str:
    backfill = status["backfill"]
    if not backfill:
        return str(status["state"])
    rate = backfill["rows_per_second"]
    return f"{backfill['rows_done']:,} rows" + (f", {rate:,.0f} rows/s" if rate else "")


def _applied_note(status: dict[str, Any]) -> str:
    return f"{status['rows_applied']:,} rows of {status['transactions_applied']:,} transactions"
