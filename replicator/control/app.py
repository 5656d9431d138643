"""The HTTP application of one address: every connector that names this address shows up here.

/              dashboard, one self-contained page; it asks for the token where one is configured
/metrics       Prometheus text or OpenMetrics
/livez         200 while the process serves
/readyz        200, or 503 with the connectors that failed; lag never makes it 503: a restart wouldn't help
/api/v1/status    all connectors, or one with ?connector=NAME     (bearer token where one is configured)
/api/v1/events    the same, once a second, as server-sent events; between them what happens, as it comes
/api/v1/findings  what verification has found, by page, with ?connector=NAME
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from replicator.control.findings import FindingsReader, answer
from replicator.control.metrics import build_registry
from replicator.telemetry import ConnectorStatus, connector_document

EVENT_SECONDS: Final = 1.0
"""Between two events of one stream."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """The handlers of one address.

    Args:
        connectors: what is shown; the list may grow and its members change.
        clock: seconds since the epoch.
        version: of this program.
        token: the bearer token of `/api`, None where none is configured (loopback only).
        findings: reads what verification has found; None where there is no such thing (a capture).

    """

    def __init__(
        self,
        connectors: Sequence[ConnectorStatus],
        *,
        clock: Callable[[], float],
        version: str,
        token: str | None,
        findings: FindingsReader | None,
    ) -> None:
        self._connectors = connectors
        self._clock = clock
        self._version = version
        self._token = token
        self._findings = findings
        self._registry = build_registry(connectors, clock, version)
        self._closing = asyncio.Event()
        self._page = resources.files("replicator.control").joinpath("dashboard/index.html").read_text("utf-8")

    async def close(self, _app: web.Application) -> None:
        """End the event streams, so that the server needn't wait for them."""
        self._closing.set()

    async def dashboard(self, _request: web.Request) -> web.StreamResponse:
        """The page; its script and style are let through by a nonce, and it may load nothing else."""
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return web.Response(
            text=self._page.replace("{{nonce}}", nonce),
            content_type="text/html",
            headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"},
        )

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """In the format that the scraper accepts."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def livez(self, _request: web.Request) -> web.StreamResponse:
        """The event loop answers: that is all it says."""
        return web.Response(text="live\n")

    async def readyz(self, _request: web.Request) -> web.StreamResponse:
        """Which connectors don't do their work, if any."""
        failed = {one.name: str(one.state) for one in self._connectors if not one.ready}
        return web.json_response({"ready": not failed, "failed": failed}, status=503 if failed else 200)

    async def status(self, request: web.Request) -> web.StreamResponse:
        """Everything that is known."""
        name = request.query.get("connector")
        if name is not None and all(one.name != name for one in self._connectors):
            return web.json_response({"error": f"no connector {name!r} runs here"}, status=404)
        return web.json_response(self._document(name), headers={"Cache-Control": "no-store"})

    async def findings(self, request: web.Request) -> web.StreamResponse:
        """A page of what verification has found."""
        name = request.query.get("connector")
        if name is None and len(self._connectors) == 1:
            name = self._connectors[0].name
        if name is None:
            return web.json_response({"error": "say which: ?connector=NAME"}, status=400)
        if self._findings is None or all(one.name != name for one in self._connectors):
            return web.json_response({"error": f"no connector {name!r} runs here"}, status=404)
        return await answer(name, request.query, self._findings)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The status at once, then once a second, and before it what has happened; until either side ends it."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        told = {one.name: one.bus.newest for one in self._connectors}
        with contextlib.suppress(ConnectionResetError):  # the client has gone: nothing is lost
            while not self._closing.is_set():
                for name, facts in self._news(told):
                    await response.write(_event(name, facts))
                await response.write(_event("status", self._document(None)))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), EVENT_SECONDS)
        return response

    def _news(self, told: dict[str, int]) -> list[tuple[str, dict[str, Any]]]:
        """What has happened since what a reader was told; it is told of what it has missed, too."""
        news: list[tuple[str, dict[str, Any]]] = []
        for one in self._connectors:
            events, missed = one.bus.after(told.get(one.name, 0))
            told[one.name] = one.bus.newest
            if missed:
                news.append(("missed", {"connector": one.name, "events": missed}))
            news += [(event.name, {"connector": one.name, "at": event.at, **event.facts}) for event in events]
        return news

    def _document(self, name: str | None) -> dict[str, Any]:
        now = self._clock()
        return {
            "version": self._version,
            "now": round(now, 3),
            "connectors": [
                connector_document(one, now) for one in self._connectors if name is None or one.name == name
            ],
        }

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The token where one is configured; without one, only requests that name this machine as their host.

        A page of any site could otherwise read the status through a browser on this machine, by a host name of its
        own that resolves to 127.0.0.1.
        """
        if self._token is None:
            if not _names_this_machine(request.host):
                return web.json_response(
                    {"error": "without http.token only requests to localhost are answered"}, status=403
                )
        elif request.path.startswith("/api/") and not self._authorized(request):
            return web.json_response(
                {"error": "expected the bearer token of http.token"},
                status=401,
                headers={"WWW-Authenticate": "Bearer"},
            )
        return await handler(request)

    def _authorized(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        wanted = (self._token or "").encode()
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), wanted)


def _event(name: str, facts: dict[str, Any]) -> bytes:
    text = json.dumps(facts, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode()


def _names_this_machine(host: str) -> bool:
    """Whether a Host header says localhost or a loopback address, with any port."""
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def create_app(
    connectors: Sequence[ConnectorStatus],
    *,
    clock: Callable[[], float],
    version: str,
    token: str | None = None,
    findings: FindingsReader | None = None,
) -> web.Application:
    """The application of one address, see the module's docstring."""
    control = Control(connectors, clock=clock, version=version, token=token, findings=findings)
    app = web.Application(middlewares=[control.guard])
    app.router.add_get("/", control.dashboard)
    app.router.add_get("/metrics", control.metrics)
    app.router.add_get("/livez", control.livez)
    app.router.add_get("/readyz", control.readyz)
    app.router.add_get("/api/v1/status", control.status)
    app.router.add_get("/api/v1/events", control.events)
    app.router.add_get("/api/v1/findings", control.findings)
    app.on_shutdown.append(control.close)
    return app
