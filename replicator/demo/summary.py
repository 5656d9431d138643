"""The end of the demo: what happened, what it proves, and where to look next."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replicator.demo.compare import Comparison, Links
from replicator.demo.lag import Lag
from replicator.demo.story import milliseconds


@dataclass(frozen=True, slots=True)
class Streamed:
    """What the daemon did in some time: rows and source transactions that it applied."""

    rows: int
    transactions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that the summary tells.

    Attributes:
        seconds: how long the demo took.
        copied: rows of the old database that the backfill has copied, and
        copy_seconds: how long that took, with the application writing.
        streamed: since the copy was caught up with, until the application's last transaction was applied.
        committed: the application's transactions, by kind.
        rolled_back: those that it gave up, or that the server refused.
        lag: None where nothing was measured.
        tables: results of the comparison.
        orphans: rows whose foreign key leads nowhere, by constraint.
        links_before, links_after: permissions that must keep their ids.

    """

    seconds: float
    copied: int
    copy_seconds: float
    streamed: Streamed
    committed: Counter[str]
    rolled_back: int
    lag: Lag | None
    tables: list[Comparison]
    orphans: dict[str, int]
    links_before: Links
    links_after: Links

    @property
    def broken_links(self) -> int:
        """Permissions that have another id now, or none."""
        return sum(self.links_after.get(link) != number for link, number in self.links_before.items())

    @property
    def differences(self) -> int:
        """Everything that is wrong, counted."""
        return sum(one.differences for one in self.tables) + sum(self.orphans.values()) + self.broken_links

    @property
    def rows(self) -> int:
        """Rows that the upgraded database should have."""
        return sum(one.rows for one in self.tables)


def show_summary(console: Console, outcome: Outcome, root: Path, connector: Path) -> None:
    """Print it."""
    console.print(Padding(_numbers(outcome), (1, 1, 0, 1)))
    console.print(Padding(_tables(outcome), (0, 0, 0, 1)))
    console.print(Padding(_verdict(outcome), (0, 1, 1, 1)))
    console.print(Padding(_next(root, connector), (0, 1, 1, 1)))


def _numbers(outcome: Outcome) -> Table:
    streamed, committed = outcome.streamed, outcome.committed
    hard = (
        (
            "keys changed",
            ("renumber_order", "renumber_user", "renumber_contact", "rename_product", "exchange_keys", "change_items"),
        ),
        ("unique values exchanged", ("exchange_emails",)),
        ("children moved", ("move_note",)),
        ("deletes", ("cancel_order", "delete_note", "delete_user", "delete_contact", "purge_contact")),
        ("savepoints rolled back", ("place_order",)),
    )
    among = [f"{sum(committed[name] for name in names):,} {what}" for what, names in hard]
    rows_rate, transactions_rate = streamed.rows / streamed.seconds, streamed.transactions / streamed.seconds
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row(
        "copied",
        f"{outcome.copied:,} rows in {outcome.copy_seconds:.1f} s, {outcome.copied / outcome.copy_seconds:,.0f} rows/s,"
        " while the application wrote",
    )
    table.add_row(
        "streamed",
        f"{streamed.rows:,} rows of {streamed.transactions:,} transactions in {streamed.seconds:.1f} s, "
        f"{rows_rate:,.0f} rows/s, {transactions_rate:,.0f} transactions/s",
    )
    table.add_row(
        "written", f"{committed.total():,} transactions, and {outcome.rolled_back:,} rolled back; {', '.join(among)}"
    )
    table.add_row("lag", _lag(outcome.lag))
    return table


def _lag(lag: Lag | None) -> Text:
    if lag is None:
        return Text("unknown: nothing was measured", style="yellow")
    return Text.assemble(
        ("p50 ", "dim"), (milliseconds(lag.p50), "bold"), ("   p99 ", "dim"), (milliseconds(lag.p99), "bold"),
        ("   most ", "dim"), milliseconds(lag.most),
        (f"   commit on old to visible on upgraded, {lag.samples:,} times", "dim"),
    )  # fmt: skip


def _tables(outcome: Outcome) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("upgraded table", no_wrap=True, min_width=24)
    for head in ("rows", "missing", "extra", "different"):
        table.add_column(head, justify="right", min_width=10)
    for one in outcome.tables:
        counts = (len(one.missing), len(one.extra), len(one.different))
        table.add_row(
            one.table,
            f"{one.rows:,}",
            *(Text(f"{count:,}", style="bold red" if count else "green") for count in counts),
        )
    return table


def _verdict(outcome: Outcome) -> Text:
    if outcome.differences:
        samples = [sample for one in outcome.tables for sample in one.samples()]
        samples += [f"{name}: {count:,} row(s) without parent" for name, count in outcome.orphans.items() if count]
        if outcome.broken_links:
            samples.append(f"{outcome.broken_links:,} permissions have another id than before")
        return Text.assemble(
            (f"✘ {outcome.differences:,} difference{'s' if outcome.differences > 1 else ''}", "bold red"),
            *(f"\n  {sample}" for sample in samples),
        )
    kept = len(outcome.links_before)
    return Text.assemble(
        ("✔ 0 differences", "bold green"),
        f" in {outcome.rows:,} rows, all compared. {len(outcome.orphans)} foreign keys without an orphan; "
        f"{kept:,} permissions of users whose role stayed have kept their ids. {outcome.seconds:.0f} s in all.",
    )


def _next(root: Path, connector: Path) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="dim")
    table.add_row("where to look next", "")
    for where, what in (
        (str(connector), "what you have just seen, as its user writes it"),
        ("connectors/crm.py", "the transforms, with their way back"),
        ("schemas/crm", "the SQL of both sides"),
        ("README.md", "what it is for, and the words that it uses"),
        ("replicator demo --keep", "leaves it all running until Ctrl-C, to look around"),
        ("replicator plan FILE", "what would happen to your own two databases; changes nothing"),
    ):
        if where == "README.md" and not (root / where).exists():
            continue
        table.add_row(f"  {where}", what)
    return table
