"""How far a job of the daemon is, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from replicator.daemon.mending import Watch


@contextmanager
def shown(what: str, total: int | None, *, on: bool) -> Iterator[Watch | None]:
    """A bar on stderr that follows `done` (and `total`, where it is told) of what is watched; None where it is off."""
    if not on:
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only where there is a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=total)

        def watch(detail: Mapping[str, Any]) -> None:
            progress.update(bar, completed=detail.get("done", 0), total=detail.get("total", total))

        yield watch
