"""How the demo shows itself: a live view on a terminal, lines elsewhere."""

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from replicator.demo.story import Progress, Step, Story, milliseconds

WIDTH_MAX = 100
FRAMES_PER_SECOND = 8
LINE_SECONDS = 1.0
_SPARKS = "▁▂▃▄▅▆▇█"
SPARKS_MAX = 50
_MARKS = {Progress.WAITING: ("·", "dim"), Progress.DONE: ("✔", "green"), Progress.FAILED: ("✘", "bold red")}


class Screen(AbstractContextManager["Screen"], Protocol):
    """Shows a story while it is told."""

    def update(self) -> None:
        """Something has changed."""


def new_console() -> Console:
    """The terminal, or whatever stdout is, no wider than is good to read."""
    console = Console(highlight=False)
    if not console.is_terminal or console.width > WIDTH_MAX:
        console = Console(highlight=False, width=WIDTH_MAX)
    return console


def new_screen(console: Console, story: Story) -> Screen:
    """The live view where stdout is a terminal that can be drawn on, else lines."""
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveScreen(console, story)
    return PlainScreen(console, story)


class PlainScreen(Screen):
    """A line when a step begins or ends, and one a second about the one that runs."""

    def __init__(self, console: Console, story: Story) -> None:
        self._console = console
        self._story = story
        self._shown: dict[Step, Progress] = {}
        self._newest = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.update()

    def update(self) -> None:
        """Print what has changed."""
        now = time.monotonic()
        quiet = now - self._newest < LINE_SECONDS
        for step, line in self._story.lines.items():
            changed = self._shown.get(step, Progress.WAITING) is not line.progress
            if not changed and (quiet or not line.note or line.progress is not Progress.RUNNING):
                continue
            self._shown[step] = line.progress
            self._newest = now
            what = {Progress.RUNNING: "", Progress.DONE: "done", Progress.FAILED: "FAILED"}.get(line.progress, "")
            words = ": ".join(part for part in (step.value, line.note) if part)
            self._console.out(f"[{self._story.seconds:5.1f} s] {what:>6} {words}")


class LiveScreen(Screen):
    """The steps, and below them what the daemon and the application do at this moment."""

    def __init__(self, console: Console, story: Story) -> None:
        self._story = story
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            get_renderable=self._picture,
            console=console,
            refresh_per_second=FRAMES_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self) -> None:
        """Nothing to do: the picture is drawn by the clock."""

    def _picture(self) -> RenderableType:
        story = self._story
        title = Table.grid(expand=True)
        title.add_column()
        title.add_column(justify="right")
        title.add_row(
            Text.assemble(("replicator demo", "bold"), ("   a live database moves to another shape", "dim")),
            Text(f"{story.seconds:.1f} s", style="dim"),
        )
        parts: list[RenderableType] = [Text(), title, Text(), self._steps()]
        if story.status is not None:
            if story.running(Step.COPY):
                parts.append(_copy_panel(story.status))
            elif story.running(Step.CATCH_UP) or story.running(Step.STREAM) or story.running(Step.DRAIN):
                parts.append(_stream_panel(story))
        return Padding(Group(*parts), (0, 1))

    def _steps(self) -> Table:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, justify="right", no_wrap=True, overflow="ellipsis")
        table.add_column(width=7, justify="right")
        for step, line in self._story.lines.items():
            mark: RenderableType = self._spinner
            if line.progress is not Progress.RUNNING:
                mark = Text(*_MARKS[line.progress])
            waiting = line.progress is Progress.WAITING
            table.add_row(
                mark,
                Text(step.value, style="dim" if waiting else ""),
                Text(line.note, style="cyan"),
                Text("" if waiting else f"{line.seconds:.1f} s", style="dim"),
            )
        return table


def _panel(content: RenderableType, title: str) -> RenderableType:
    return Padding(Panel(content, title=title, title_align="left", box=ROUNDED, border_style="dim"), (1, 0, 0, 0))


def _copy_panel(status: dict[str, Any]) -> RenderableType:
    backfill = status["backfill"] or {"tables": {}}
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", width=9)
    table.add_column(justify="right", width=16, style="dim")
    for name, copied in backfill["tables"].items():
        done = copied["state"] == "done"
        rows, rate = copied["rows_done"], copied["rows_per_second"]
        # Unknown, or not begun: an empty bar.
        total = rows if done else max(copied["rows_estimate"] or 0, rows)
        table.add_row(
            name,
            ProgressBar(total=max(total, 1), completed=max(total, 1) if done else rows, finished_style="green"),
            f"{rows:,}",
            "" if done or not rate else f"{rate:,.0f} rows/s",
        )
    return _panel(table, "rows copied")


def _stream_panel(story: Story) -> RenderableType:
    status = story.status or {}
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    for _ in range(3):
        table.add_column(justify="right", width=10)
    table.add_column(ratio=1)
    table.add_row("", *(Text(head, style="dim") for head in ("written", "deleted", "")))
    for name, counts in status["tables"].items():
        written = sum(rows for operation, rows in counts.items() if operation != "delete")
        table.add_row(name, f"{written:,}", f"{counts.get('delete', 0):,}")
    return _panel(Group(table, Text(), _numbers(story, status)), "applied to the upgraded database")


def _numbers(story: Story, status: dict[str, Any]) -> Table:
    rates = Text.assemble(
        (f"{status['rows_per_second'] or 0:,.0f}", "bold"), (" rows/s   ", "dim"),
        (f"{status['transactions_per_second'] or 0:,.0f}", "bold"), (" transactions/s", "dim"),
    )  # fmt: skip
    lag = Text(_sparkline(story.lags[-SPARKS_MAX:]), style="cyan")
    if story.lag is not None:
        p50, p99 = milliseconds(story.lag.p50), milliseconds(story.lag.p99)
        lag.append_text(Text.assemble(("  p50 ", "dim"), (p50, "bold"), ("  p99 ", "dim"), (p99, "bold")))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(no_wrap=True)
    table.add_row("rate", rates)
    table.add_row("lag", lag)
    return table


def _sparkline(values: list[float]) -> str:
    top = max(values, default=0.0)
    return "".join(
        _SPARKS[min(len(_SPARKS) - 1, int(value / top * len(_SPARKS)))] if top else _SPARKS[0] for value in values
    )
