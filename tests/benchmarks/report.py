"""Results: a JSON file a benchmark, and a table for people."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def write_result(name: str, facts: Mapping[str, Any]) -> Path:
    """Write `facts` to $BENCH_OUT, or to results/ beside this file (which git ignores)."""
    folder = Path(os.environ.get("BENCH_OUT") or Path(__file__).with_name("results"))
    folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "cpus": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "machine": platform.platform(),
        "python": platform.python_version(),
    }
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"benchmark": name, "at": made, "machine": machine, **facts}, indent=2) + "\n")
    return file


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one table; numbers come as text."""
    table = Table(title=title, title_justify="left")
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=120)
    console.print()
    console.print(table)
