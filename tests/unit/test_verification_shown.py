"""What is known of verification, as the faces show it: document, status lines, events, pages of findings."""

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import click
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from replicator.commands.show import status_lines
from replicator.control import ControlServer, FindingsQuery, create_app
from replicator.errors import ErrorKind, ReplicatorError
from replicator.telemetry import (
    Bus,
    CertificateStatus,
    CheckStatus,
    ConnectorStatus,
    OpenFinding,
    TableBackfill,
    Trouble,
    VerifyState,
    connector_document,
)
from replicator.telemetry.bus import KEPT

NOW = 1_700_000_000.0


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """An HTTP client."""
    async with ClientSession() as client:
        yield client


def known() -> ConnectorStatus:
    """A connector of which much is known."""
    status = ConnectorStatus.new("crm", NOW - 100)
    status.forward.declare(["crm.users"])
    verify = status.forward.verify
    verify.declare((), [CheckStatus("balance", "block")])
    verify.counted(
        {("crm.users", "missing"): 2, ("crm.users", "different"): 1},
        [OpenFinding(1, "crm.users", ("7",), "different", ("email",), "outside_write", NOW - 60, NOW - 5)],
    )
    verify.found["crm.users", "missing"] = 2
    verify.passed(4, at=NOW - 30, seconds=12.0, ok=False, unsettled={"crm.users": 3})
    verify.state = VerifyState.VERIFYING
    verify.pass_began = NOW - 10
    copy = verify.progress["public.users"] = TableBackfill("public.users", rows_estimate=1000)
    copy.start(NOW - 10)
    copy.advance(NOW, 500)
    verify.limit, verify.reasons = 2_500.0, ("old answers 3.0 times slower than usual",)
    verify.latency["old"] = 3.0
    verify.checks["balance"] = CheckStatus("balance", "block", ok=False, at=NOW - 20, message="2 rows")
    verify.certificate = CertificateStatus(valid=False, issued_at=None, reason="3 differences are open")
    return status


def test_unknown_is_null() -> None:
    """Before anything was asked, nothing is said to be 0."""
    status = ConnectorStatus.new("crm", NOW)
    status.forward.declare(["crm.users"])
    shown = connector_document(status, NOW)["verification"]

    assert (None, None, None) == (shown["open_divergences"], shown["last_pass"], shown["certificate"])
    assert {"missing": None, "extra": None, "different": None, "unsettled": None, "rows": 0} == shown["tables"][
        "crm.users"
    ]
    assert "off" == shown["state"]


def test_the_document_tells_all_of_it() -> None:
    """Findings, the newest pass, the one that runs with its time left, why it is slow, checks, certificate."""
    shown = connector_document(known(), NOW)["verification"]

    assert 3 == shown["open_divergences"]
    assert {"missing": 2, "extra": 0, "different": 1, "unsettled": 3, "rows": 0} == shown["tables"]["crm.users"]
    assert (4, False) == (shown["last_pass"]["run"], shown["last_pass"]["ok"])
    assert (500, 1000, 50.0, 10.0) == tuple(
        shown["running_pass"][name] for name in ("rows_done", "rows_estimate", "rows_per_second", "eta_seconds")
    )
    assert ["7"] == shown["findings"][0]["key"]
    assert {"old": 3.0, "upgraded": None} == shown["slowness"]
    assert shown["checks"]["balance"]["ok"] is False
    assert not shown["certificate"]["valid"]
    json.dumps(shown)


def test_status_says_what_is_wrong() -> None:
    """For people: how many, where, how fast, why no faster, which checks fail, and why verification itself fails."""
    status = known()
    error = ReplicatorError("refused", kind=ErrorKind.CONNECTION)
    status.forward.verify.trouble = Trouble.of(error, NOW)
    text = click.unstyle("\n".join(status_lines({"told_by": "daemon", **connector_document(status, NOW)})))

    for words in (
        "3 open findings",
        "crm.users  2 missing, 1 different, 3 unsettled",
        "verifying: 500 rows, 50 rows/s, 10 s left",
        "slowed down to 2,500 rows/s: old answers 3.0 times slower than usual",
        "checks failed: balance",
        "tried again: refused",
    ):
        assert words in text


async def test_metrics_of_verification(session: ClientSession) -> None:
    """Each table and kind from the start; undecided is NaN."""
    status = known()
    status.forward.verify.checks["never"] = CheckStatus("never", "warn")
    app = create_app([status], clock=lambda: NOW, version="0")
    async with ControlServer(app, "127.0.0.1", 0) as server, session.get(f"{server.url}/metrics") as answer:
        families = {one.name: one.samples for one in text_string_to_metric_families(await answer.text())}
    kinds = {sample.labels["kind"]: sample.value for sample in families["replicator_open_divergences"]}
    checks = {sample.labels["check"]: sample.value for sample in families["replicator_check_ok"]}

    assert {"missing": 2, "extra": 0, "different": 1} == kinds
    assert 0 == checks["balance"]
    assert math.isnan(checks["never"])
    assert [1] == [sample.value for sample in families["replicator_verify_braked"]]


def test_a_slow_reader_is_told_what_it_missed() -> None:
    """Events are kept for readers at their own speed, up to a bound; beyond it the number of the lost ones is known."""
    bus = Bus()
    for number in range(KEPT + 5):
        bus.publish("finding", NOW, {"id": number})
    events, missed = bus.after(2)

    assert (KEPT, 3) == (len(events), missed)
    assert ([], 0) == bus.after(bus.newest)


async def test_the_stream_tells_what_happens_between(session: ClientSession) -> None:
    """What is published after a reader came is told to it, each once, before the status."""
    status = known()
    status.bus.publish("finding", NOW, {"id": 1})  # before anybody listens
    async with ControlServer(create_app([status], clock=lambda: NOW, version="0"), "127.0.0.1", 0) as server:
        answer = await session.get(f"{server.url}/api/v1/events")
        assert b"event: status\n" == await answer.content.readline()
        status.bus.publish("finding", NOW, {"id": 2})
        while (line := await answer.content.readline()) != b"event: finding\n":
            assert line
        data = json.loads((await answer.content.readline()).removeprefix(b"data: "))
        answer.close()

    assert {"connector": "crm", "at": NOW, "id": 2} == data


async def ask(session: ClientSession, query: str, rows: int = 0, *, error: ErrorKind | None = None) -> tuple[int, Any]:
    """A page, of findings 1 to `rows` that the reader has."""

    async def read(asked: FindingsQuery) -> list[dict[str, Any]]:
        if error is not None:
            raise ReplicatorError("no", kind=error)
        return [{"id": number} for number in range(asked.after + 1, rows + 1)][: asked.limit]

    app = create_app([known()], clock=lambda: NOW, version="0", findings=read)
    server = ControlServer(app, "127.0.0.1", 0)
    async with server, session.get(f"{server.url}/api/v1/findings{query}") as answer:
        return answer.status, await answer.json()


async def test_findings_come_by_page(session: ClientSession) -> None:
    """`next` leads from page to page, and ends; one connector needs no name."""
    status, first = await ask(session, "?connector=crm&limit=2", 3)
    _, second = await ask(session, f"?limit=2&after={first['next']}", 3)

    assert (200, [1, 2], 2) == (status, [one["id"] for one in first["findings"]], first["next"])
    assert ([3], None) == ([one["id"] for one in second["findings"]], second["next"])


@pytest.mark.parametrize(
    "query, code",
    [
        ("?connector=nobody", 404),
        ("?limit=0", 400),
        ("?limit=1001", 400),
        ("?after=-1", 400),
        ("?after=x", 400),
        ("?state=new", 400),
        ("?colour=red", 400),
        ("?state=all&table=crm.users", 200),
    ],
)
async def test_a_wrong_query_is_refused(session: ClientSession, query: str, code: int) -> None:
    """With what is wrong with it, never with a page of something else."""
    status, answer = await ask(session, query)

    assert code == status
    assert (code == 200) == ("findings" in answer)


async def test_a_database_that_does_not_answer_is_503(session: ClientSession) -> None:
    """What can't be read is no empty page."""
    assert 503 == (await ask(session, "", error=ErrorKind.CONNECTION))[0]
    assert 400 == (await ask(session, "?table=x", error=ErrorKind.CONFIG))[0]
