"""What the commands print, and how they ask the daemon."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest

from replicator.assess import Assessment, Finding, Level, MappingPlan
from replicator.commands.ask import ask_daemon
from replicator.commands.plan import plan_lines
from replicator.commands.show import size, span, status_lines
from replicator.commands.test import report_lines
from replicator.config import Connector, parse_connector
from replicator.control import ControlServer, create_app
from replicator.errors import ErrorKind, ReplicatorError
from replicator.lawcheck import Difference, Law, LawFailure, LawReport
from replicator.tables import TableName
from replicator.telemetry import ConnectorStatus, State, TableBackfill, connector_document

NOW = 1_700_000_000.0
TOKEN = "a-token"


def plain(lines: Iterator[str] | list[str]) -> str:
    return click.unstyle("\n".join(lines))


def document(status: ConnectorStatus) -> dict[str, Any]:
    return {"told_by": "daemon", **connector_document(status, NOW)}


def connector(listen: str, token: str | None = None) -> Connector:
    http = f'{{listen: "{listen}"}}' if token is None else f'{{listen: "{listen}", token: {token}}}'
    text = f"""
name: crm
old: {{dsn: "host=nowhere"}}
upgraded: {{dsn: "host=nowhere"}}
tables: [{{old: "public.*"}}]
http: {http}
"""
    return parse_connector(text.encode(), Path("crm.yaml"), {})


@contextmanager
def daemon(status: ConnectorStatus, token: str | None = None) -> Iterator[str]:
    """Serve a status on a loop of its own; yields the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def serve() -> ControlServer:
        app = create_app([status], clock=lambda: NOW, version="0", token=token)
        return await ControlServer(app, "127.0.0.1", 0).__aenter__()

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
    try:
        yield server.url.removeprefix("http://")
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_status_names_what_is_unknown() -> None:
    """A number that nobody knows is called so, and never shown as 0."""
    shown = plain(status_lines(document(ConnectorStatus.new("crm", NOW))))

    assert "end to end    unknown" in shown
    assert "WAL held      unknown" in shown
    assert "dead letters  unknown" in shown
    assert "backlog" not in shown  # no Kafka: no such number


def test_status_shows_a_running_backfill_by_table() -> None:
    """Each table with its share and rows."""
    status = ConnectorStatus.new("crm", NOW)
    status.forward.enter(State.COPYING, NOW)
    for name, done in (("public.a", 250), ("public.b", 0)):
        status.forward.backfill[name] = TableBackfill(name, rows_estimate=1000, rows_done=done)
    shown = plain(status_lines(document(status)))

    assert "250 rows, 0 of 2 tables done" in shown
    assert "public.a  ██████░░░░░░░░░░░░░░░░░░  25%  250 rows, waiting" in shown


def test_status_shows_the_error_and_whether_it_is_tried_again() -> None:
    """Kind, text and hint; a failed connector stopped, another one tries again."""
    status = ConnectorStatus.new("crm", NOW)
    status.forward.retried(ReplicatorError("lost", kind=ErrorKind.CONNECTION, hint="Wait"), NOW)
    assert "connection error, is tried again: lost. Wait" in plain(status_lines(document(status)))
    status.forward.enter(State.FAILED, NOW)
    assert "connection error, stopped: lost. Wait" in plain(status_lines(document(status)))


def test_status_says_when_the_databases_told_it() -> None:
    """Nobody takes what the databases know for what a daemon says."""
    told = {**document(ConnectorStatus.new("crm", NOW)), "told_by": "databases"}

    assert "crm  has not begun   (no daemon answers: read from the databases)" in plain(status_lines(told))
    told |= {"epoch": 1, "state_since": None, "running": False}
    assert "crm  preparing when it was stopped   (no daemon answers" in plain(status_lines(told))


@pytest.mark.parametrize(
    "seconds, text",
    [(None, "unknown"), (0.0123, "12 ms"), (3.21, "3.2 s"), (75, "75 s"), (600, "10 min"), (7200, "2.0 h")],
)
def test_spans_read_like_spans(seconds: float | None, text: str) -> None:
    """Two significant digits are enough, and the unit is the one that a person would take."""
    assert text == span(seconds)


@pytest.mark.parametrize("count, text", [(None, "unknown"), (0, "0 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")])
def test_sizes_read_like_sizes(count: int | None, text: str) -> None:
    """Powers of 1024, and unknown where it is."""
    assert text == size(count)


def test_plan_shows_stops_with_their_remedy() -> None:
    """Under its mapping, with the statement to run; notes only when asked for."""
    table = TableName("public", "log")
    plan = MappingPlan("public.log", (table,), (table,), ("same shape",), (), (), "none", None, 0)
    findings = (
        Finding(Level.STOP, "replica_identity", "public.log", "it has no key", "ALTER TABLE x;", "public.log"),
        Finding(Level.NOTE, "sequences", "upgraded database", "not replicated"),
    )
    assessment = Assessment("crm", (plan,), findings, whole_transactions=True, transactions_reason="one lane")
    shown = plain(plan_lines(assessment))

    assert "✘ public.log: it has no key\n      ALTER TABLE x;" in shown
    assert "1 to mend" in shown
    assert "not replicated" not in shown
    assert "· upgraded database: not replicated" in plain(plan_lines(assessment, notes=True))


def test_plan_shows_what_could_not_be_mapped() -> None:
    """A finding about a mapping that didn't compile has no mapping to stand under, and is shown all the same."""
    finding = Finding(Level.STOP, "mapping", "public.gone", "no such table", "Create it", "public.gone")
    assessment = Assessment("crm", (), (finding,), whole_transactions=True, transactions_reason="one lane")

    assert "✘ public.gone: no such table" in plain(plan_lines(assessment))


def test_law_report_shows_what_is_broken() -> None:
    """Law, table, columns, how often, the first key; values only where the report has them."""
    failure = LawFailure(
        Law.ROUND_TRIP, "public.a", ("phone",), "doesn't come back", True, ("7",), 3, (Difference("phone", "1", None),)
    )
    report = LawReport("public.a", "account in crm.py:3", 1, 200, 50, 0, {}, (failure,), ("no key",))
    shown = plain(report_lines(report))

    assert "✘ public.a" in shown
    assert "the inverse gives back what there was: public.a (phone): doesn't come back" in shown
    assert "3 times, first with the sampled key (7)" in shown
    assert "phone: '1' became None" in shown
    assert "not checked: no key" in shown


def test_the_daemon_is_asked_with_its_token() -> None:
    """What the daemon says about this connector, of all that it runs."""
    with daemon(ConnectorStatus.new("crm", NOW), TOKEN) as address:
        told = ask_daemon(connector(address, TOKEN))

    assert told is not None
    assert "crm" == told["connector"]


def test_a_refused_token_is_told() -> None:
    """Another token than the running daemon's is a mistake of the configuration, not the absence of a daemon."""
    with (
        daemon(ConnectorStatus.new("crm", NOW), TOKEN) as address,
        pytest.raises(ReplicatorError, match=r"refuses this connector's http\.token") as caught,
    ):
        ask_daemon(connector(address, "wrong"))

    assert ErrorKind.CONFIG is caught.value.kind


def test_another_daemon_on_the_address_is_none_of_ours() -> None:
    """A daemon that runs other connectors has nothing to say about this one; neither has port 0, nor a free port."""
    with daemon(ConnectorStatus.new("billing", NOW)) as address:
        assert ask_daemon(connector(address)) is None
    assert ask_daemon(connector(address)) is None
    assert ask_daemon(connector("127.0.0.1:0")) is None
