"""The HTTP face: metrics by the book, health, API with and without token, event stream, dashboard."""

import json
import math
import re
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from replicator.control import ControlServer, create_app
from replicator.errors import ErrorKind, ReplicatorError
from replicator.telemetry import CheckStatus, ConnectorStatus, State, TableBackfill, Trouble, names

NOW = 1_700_000_000.0
TOKEN = "s3cret-token"


def fresh() -> ConnectorStatus:
    status = ConnectorStatus.new("crm", NOW)
    status.forward.declare(["crm.accounts"])
    status.forward.verify.declare((), [CheckStatus("invoices balance", "block")])
    status.forward.backfill["public.accounts"] = TableBackfill("public.accounts", rows_estimate=10)
    return status


def serve(*statuses: ConnectorStatus, token: str | None = None) -> ControlServer:
    return ControlServer(create_app(statuses, clock=lambda: NOW, version="0.0", token=token), "127.0.0.1", 0)


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """An HTTP client."""
    async with ClientSession() as client:
        yield client


async def scrape(session: ClientSession, *statuses: ConnectorStatus) -> str:
    async with serve(*statuses) as server, session.get(f"{server.url}/metrics") as answer:
        assert answer.status == 200
        return await answer.text()


async def test_metrics_parse_and_have_the_names_of_the_book(session: ClientSession) -> None:
    """Prometheus' own parser reads them, and `promtool check metrics` would have nothing to say."""
    text = await scrape(session, fresh())
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ours = {metric.name for metric in names.ALL}

    assert ours <= families.keys()
    for family in families.values():
        if not family.name.startswith("replicator_"):
            continue
        assert family.documentation
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", family.name)
        assert not re.search(r"_(count|sum|bucket|info_total|gauge|counter|histogram)$", family.name)
        assert not re.search(r"(?<![a-z])(ms|millis|milliseconds|kb|mb|minutes|hours)(?![a-z])", family.name)
        assert all(sample.name.endswith("_total") for sample in family.samples) == (family.type == "counter")


async def test_metric_kinds_and_labels_are_those_of_the_table(session: ClientSession) -> None:
    """One file says name, kind and labels; what is served agrees with it."""
    families = {one.name: one for one in text_string_to_metric_families(await scrape(session, fresh()))}

    for metric in names.ALL:
        family = families[metric.name]
        assert metric.kind.value == family.type
        assert {frozenset(metric.labels)} == {frozenset(s.labels.keys() - {"le"}) for s in family.samples}


async def test_label_sets_exist_from_the_start(session: ClientSession) -> None:
    """Before anything was applied, each table and operation, state and error kind has its series at 0."""
    text = await scrape(session, fresh())

    assert (
        'replicator_applied_rows_total{connector="crm",feed="forward",operation="insert",table="crm.accounts"} 0.0'
        in text
    )
    assert 'replicator_retries_total{connector="crm",feed="forward",kind="connection"} 0.0' in text
    assert 'replicator_state{connector="crm",state="preparing"} 1.0' in text
    assert 'replicator_state{connector="crm",state="failed"} 0.0' in text


async def test_an_unknown_lag_is_no_zero(session: ClientSession) -> None:
    """A lag that can't be known is NaN, with which no alert on "greater" or "smaller" agrees."""
    families = {one.name: one for one in text_string_to_metric_families(await scrape(session, fresh()))}

    for metric in (names.END_TO_END, names.FRESHNESS, names.BACKLOG, names.RETAINED_WAL, names.DEAD_LETTERS):
        assert all(math.isnan(sample.value) for sample in families[metric.name].samples)


async def test_openmetrics_where_the_scraper_asks(session: ClientSession) -> None:
    """Prometheus asks for OpenMetrics; it gets it."""
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with serve(fresh()) as server, session.get(f"{server.url}/metrics", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await answer.text()).endswith("# EOF\n")


@pytest.mark.parametrize("state, code", [(State.FAILED, 503), (State.SUPERSEDED, 503), (State.CATCHING_UP, 200)])
async def test_ready_is_not_live(session: ClientSession, state: State, code: int) -> None:
    """A failed feed is live and not ready; one that lags is both: to restart it would help nobody."""
    status = fresh()
    status.forward.enter(state, NOW)
    status.forward.pending(NOW - 3600)
    async with serve(status) as server:
        async with session.get(f"{server.url}/livez") as answer:
            assert answer.status == 200
        async with session.get(f"{server.url}/readyz") as answer:
            assert code == answer.status
            assert ({"crm": str(state)} if code == 503 else {}) == (await answer.json())["failed"]


async def test_one_failed_connector_is_named(session: ClientSession) -> None:
    """With two connectors on one address, the answer says which one failed."""
    good, bad = fresh(), ConnectorStatus.new("billing", NOW)
    bad.forward.enter(State.FAILED, NOW)
    async with serve(good, bad) as server, session.get(f"{server.url}/readyz") as answer:
        assert {"ready": False, "failed": {"billing": "failed"}} == await answer.json()


async def test_status_of_one_or_all(session: ClientSession) -> None:
    """All connectors of the address, or the one that is asked for; an unknown one is 404."""
    async with serve(fresh(), ConnectorStatus.new("billing", NOW)) as server:
        async with session.get(f"{server.url}/api/v1/status") as answer:
            assert ["crm", "billing"] == [one["connector"] for one in (await answer.json())["connectors"]]
        async with session.get(f"{server.url}/api/v1/status?connector=billing") as answer:
            assert ["billing"] == [one["connector"] for one in (await answer.json())["connectors"]]
        async with session.get(f"{server.url}/api/v1/status?connector=nobody") as answer:
            assert answer.status == 404


async def test_api_asks_for_the_token(session: ClientSession) -> None:
    """With a token configured the API answers to it alone; probes, metrics and the empty page need none."""
    async with serve(fresh(), token=TOKEN) as server:
        for path in ("/api/v1/status", "/api/v1/events"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                async with session.get(server.url + path, headers=headers) as answer:
                    assert answer.status == 401
                    assert TOKEN not in await answer.text()
        good = {"Authorization": f"Bearer {TOKEN}"}
        async with session.get(f"{server.url}/api/v1/status", headers=good) as answer:
            assert answer.status == 200
        for path in ("/livez", "/readyz", "/metrics", "/"):
            async with session.get(server.url + path) as answer:
                assert answer.status == 200


@pytest.mark.parametrize(
    "host, code",
    [
        ("localhost", 200),
        ("localhost:9", 200),
        ("127.0.0.1:9", 200),
        ("[::1]:9", 200),
        ("evil.example:8650", 403),
        ("127.0.0.1.evil.example", 403),
        ("10.0.0.1", 403),
    ],
)
async def test_without_token_only_this_machine_is_named(session: ClientSession, host: str, code: int) -> None:
    """A web page can't read the status through a browser on this machine by a name that resolves to it."""
    async with (
        serve(fresh()) as server,
        session.get(f"{server.url}/api/v1/status", headers={"Host": host}) as answer,
    ):
        assert code == answer.status


async def test_events_follow_the_status_and_end_with_the_server(session: ClientSession) -> None:
    """The first event comes at once; closing the server ends the stream cleanly."""
    server = serve(fresh())
    async with server:
        answer = await session.get(f"{server.url}/api/v1/events")
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert b"event: status\n" == await answer.content.readline()
        line = await answer.content.readline()
    assert "crm" == json.loads(line.removeprefix(b"data: "))["connectors"][0]["connector"]
    rest = await answer.content.read()
    assert rest.startswith(b"\n")


async def test_dashboard_loads_nothing_from_elsewhere(session: ClientSession) -> None:
    """One page, its script let through by a fresh nonce, no address of another host."""
    async with serve(fresh()) as server, session.get(server.url) as answer:
        page = await answer.text()
        policy = answer.headers["Content-Security-Policy"]

    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page))
    assert f"script-src 'nonce-{nonce}'" in policy
    assert "default-src 'none'" in policy
    assert not re.findall(r"""(?:src|href)=["']https?:""", page)


async def test_a_busy_port_is_a_clear_error() -> None:
    """The second daemon on one address says which address, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ControlServer(create_app([], clock=lambda: NOW, version="0.0"), "127.0.0.1", port)
        with pytest.raises(ReplicatorError, match=f"can't listen on 127.0.0.1:{port}.*http.listen") as caught:
            await server.__aenter__()

    assert ErrorKind.CONFIG is caught.value.kind


async def test_an_error_shows_without_secrets_or_values(session: ClientSession) -> None:
    """What the API says about an error is what the error's author allowed: message and facts."""
    status = fresh()
    error = ReplicatorError("refused", kind=ErrorKind.DATA, table="crm.accounts", key=("7",), sqlstate="23514")
    status.forward.trouble = Trouble.of(error, NOW)
    async with serve(status) as server, session.get(f"{server.url}/api/v1/status") as answer:
        shown = (await answer.json())["connectors"][0]["error"]

    assert {
        "kind": "data",
        "message": "refused [table crm.accounts; key (7); SQLSTATE 23514]",
        "at": NOW,
        "error_kind": "data",
        "table": "crm.accounts",
        "key": "(7)",
        "sqlstate": "23514",
    } == shown
