"""A small HTTP server that answers as Kafka Connect does, and in every way that it shouldn't."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from replicator.kafka.connect import ConnectClient

DEBEZIUM = "io.debezium.connector.postgresql.PostgresConnector"


@dataclass
class ConnectServer:
    """What it answers may be changed at any time.

    Attributes:
        configs: of each connector, by name.
        offsets: of each connector, as `/offsets` has them.
        states: state of each connector and its tasks.
        status: answer every request with this code, after `before` requests that are answered as they should be.
        body: the text that goes with it, and replaces every answer when `status` is 200.
        silent: never answer.
        requests: paths, in order.

    """

    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    offsets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    states: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    status: int | None = None
    times: int | None = None
    body: str = "{}"
    silent: bool = False
    requests: list[str] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.raw_path)
        if self.silent:
            await asyncio.Event().wait()
        if self.status is not None and self.times != 0:
            self.times = None if self.times is None else self.times - 1
            return web.Response(status=self.status, text=self.body)
        return self.documented(request.path.split("/")[1:])

    def documented(self, path: list[str]) -> web.Response:
        match path:
            case [""]:
                return web.json_response({"version": "4.3.1", "commit": "x", "kafka_cluster_id": "cluster-1"})
            case ["connector-plugins"]:
                return web.json_response([{"class": DEBEZIUM, "type": "source", "version": "3.6.3.Final"}])
            case ["connectors"]:
                return web.json_response(list(self.configs))
            case ["connectors", name, *_] if name not in self.configs:
                return web.json_response({"error_code": 404, "message": f"Connector {name} not found"}, status=404)
            case ["connectors", name, "config"]:
                return web.json_response(self.configs[name])
            case ["connectors", name, "offsets"] if name in self.offsets:
                return web.json_response({"offsets": self.offsets[name]})
            case ["connectors", name, "status"]:
                state, tasks = self.states.get(name, ("RUNNING", ["RUNNING"]))
                described = [{"id": number, "state": task, "trace": "s3cret"} for number, task in enumerate(tasks)]
                return web.json_response({"name": name, "connector": {"state": state}, "tasks": described})
        return web.json_response({"error_code": 404, "message": "HTTP 404 Not Found"}, status=404)

    def client(self, name: str = "crm", **options: Any) -> ConnectClient:
        return ConnectClient(self.url, name, **options)


def offset(server: str = "old", **values: Any) -> dict[str, Any]:
    """One entry of `/offsets`."""
    return {"partition": {"server": server}, "offset": {"ts_usec": 1, "txId": 5, **values}}


@pytest.fixture
async def connect_server() -> AsyncIterator[ConnectServer]:
    """One connector, crm."""
    connect = ConnectServer(configs={"crm": {"connector.class": DEBEZIUM, "database.password": "s3cret"}})
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", connect.answer)
    async with TestServer(app) as server:
        connect.url = str(server.make_url("")).rstrip("/")
        yield connect
