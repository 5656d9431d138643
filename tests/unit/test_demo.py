"""The demo's own parts, without a server."""

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from replicator.demo import checkout, lag
from replicator.demo.checkout import CONNECTOR, CheckoutError, find_root, migrations
from replicator.demo.compare import Comparison
from replicator.demo.screen import new_screen
from replicator.demo.seed import shares
from replicator.demo.story import Step, Story, milliseconds
from replicator.demo.summary import Outcome, Streamed, show_summary

STATUS = {
    "state": "streaming",
    "end_to_end_seconds": 0.004,
    "rows_per_second": 1200.0,
    "transactions_per_second": None,
    "lag_p50_seconds": 0.004,
    "lag_p99_seconds": None,
    "tables": {"crm.orders": {"insert": 3, "upsert": 2, "update": 1, "delete": 7}},
    "backfill": {
        "tables": {
            "public.orders": {"state": "copying", "rows_done": 3, "rows_estimate": None, "rows_per_second": None},
            "public.users": {"state": "done", "rows_done": 0, "rows_estimate": 0, "rows_per_second": None},
        }
    },
}


def outcome(**changes: object) -> Outcome:
    plain: dict[str, object] = {
        "seconds": 30.0,
        "copied": 100,
        "copy_seconds": 1.0,
        "streamed": Streamed(rows=50, transactions=10, seconds=5.0),
        "committed": Counter(place_order=3, exchange_emails=2),
        "rolled_back": 1,
        "lag": lag.Lag(samples=10, p50=0.004, p99=0.02, most=0.03),
        "tables": [Comparison("crm.users", rows=40)],
        "orphans": {"crm.users users_account_id_fkey": 0},
        "links_before": {(5, "read"): 17},
        "links_after": {(5, "read"): 17},
    }
    return Outcome(**(plain | changes))  # type: ignore[arg-type] # the names are checked when it runs


def printed(made: Outcome) -> str:
    console = Console(file=io.StringIO(), width=100)
    show_summary(console, made, find_root(), CONNECTOR)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_checkout_is_found() -> None:
    """From the package itself the example's files are found above it."""
    assert (find_root() / "connectors/crm.yaml").is_file()


def test_missing_checkout_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed without its repository, the demo says what it lacks and where it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkout, "__file__", str(tmp_path / "site-packages/replicator/demo/checkout.py"))

    with pytest.raises(CheckoutError, match="make demo"):
        find_root()


def test_migrations_go_by_number(tmp_path: Path) -> None:
    """V10 comes after V9, and other files don't count."""
    for name in ("V10__b.sql", "V9__a.sql", "README.md", "V1__x.sql.orig"):
        (tmp_path / name).touch()

    assert ["V9__a.sql", "V10__b.sql"] == [path.name for path in migrations(tmp_path)]


def test_shares_add_up() -> None:
    """The tables' shares, with two items an order, are about the rows that were asked for."""
    parts = shares(50_000)
    assert 50_000 == pytest.approx(sum(parts.values()) + 2 * parts["orders"], rel=0.01)


def test_agreement_is_said() -> None:
    """Without a difference the summary says 0."""
    assert 0 == outcome().differences
    assert "✔ 0 differences in 40 rows" in printed(outcome())


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"tables": [Comparison("crm.users", 1, missing=[("7",)])]}, "crm.users: key (7) is missing"),
        ({"tables": [Comparison("crm.users", 1, extra=[("7", "x")])]}, "crm.users: key (7, x) is extra"),
        ({"tables": [Comparison("crm.users", 1, different=[("7",)])]}, "crm.users: key (7) is different"),
        ({"orphans": {"crm.users fk": 1}}, "crm.users fk: 1 row"),
        ({"links_after": {(5, "read"): 18}}, "another id than before"),
        ({"links_after": {}}, "another id than before"),
    ],
)
def test_each_difference_counts(changes: dict[str, object], words: str) -> None:
    """A missing, extra or different row, an orphan, and a permission with another id are each a difference by name."""
    made = outcome(**changes)

    assert 1 == made.differences
    assert "✘ 1 difference" in printed(made)
    assert words in printed(made)


def test_unknown_lag_is_no_zero() -> None:
    """A lag that wasn't measured is said to be unknown."""
    assert "unknown" in printed(outcome(lag=None))


@pytest.mark.parametrize("seconds, text", [(0.0042, "4.2 ms"), (0.0314, "31 ms"), (1.2, "1.20 s")])
def test_lags_are_readable(seconds: float, text: str) -> None:
    """A lag has the unit and the digits that a person wants."""
    assert text == milliseconds(seconds)


def test_quantiles_are_values_that_were_seen() -> None:
    """p99 of a hundred values is the ninety-ninth, p50 of one value is that one."""
    assert 99.0 == lag.quantile([float(number) for number in range(1, 101)], 0.99)
    assert 7.0 == lag.quantile([7.0], 0.5)


def test_lines_where_no_terminal_is() -> None:
    """Without a terminal each step is a line when it begins and when it ends, without control characters."""
    console, story = Console(file=io.StringIO(), width=100), Story.of(kafka=False)
    with new_screen(console, story) as screen:
        story.begin(Step.SERVERS)
        screen.update()
        story.finish(Step.SERVERS, "ports 1 and 2")
        screen.update()

    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [f"{Step.SERVERS.value}", f"done {Step.SERVERS.value}: ports 1 and 2"] == [
        line.partition("s]")[2].strip() for line in lines
    ]


def test_failure_is_shown() -> None:
    """The step that ran when something failed is marked."""
    console, story = Console(file=io.StringIO(), width=100), Story.of(kafka=False)
    with new_screen(console, story) as screen:
        story.begin(Step.PLAN)
        screen.update()
        story.fail()

    assert isinstance(console.file, io.StringIO)
    assert f"FAILED {Step.PLAN.value}" in console.file.getvalue()


@pytest.mark.parametrize("step", [Step.COPY, Step.STREAM])
def test_live_view_bears_what_is_unknown(step: Step) -> None:
    """The live view draws a status in which rates, estimates and lags are still unknown."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True, legacy_windows=False)
    story = Story.of(kafka=False)
    story.begin(step)
    story.hear(None)
    story.hear(STATUS)
    story.lag, story.lags = lag.Lag(samples=2, p50=0.003, p99=0.004, most=0.004), [0.003, 0.004]
    with new_screen(console, story):
        pass

    assert isinstance(console.file, io.StringIO)
    assert ("public.orders" if step is Step.COPY else "crm.orders") in console.file.getvalue()
