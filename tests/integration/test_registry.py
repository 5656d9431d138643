"""The client of schema registries, against a server that fails in every way."""

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from fastavro import parse_schema

from replicator.config.secret import Secret
from replicator.config.streams import SchemaRegistry as Settings
from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka import registry as subject
from replicator.kafka.registry import SchemaRegistry
from replicator.records import RegistrySchema

LONG = '"long"'
ROW = json.dumps({"type": "record", "name": "Row", "namespace": "a", "fields": [{"name": "id", "type": "long"}]})


@dataclass
class Served:
    """What the server knows, and how it misbehaves.

    Attributes:
        schemas: answers of /schemas/ids/N, by number.
        versions: answers of /subjects/NAME/versions/N.
        statuses: answer so many requests with these, one after the other, before any is answered as it should be.
        gate: no request is answered before it is set.
        asked: a request has come.
        requests: method and path of each, with the credentials that it came with.

    """

    url: str = ""
    schemas: dict[int, Any] = field(default_factory=lambda: {1: {"schema": LONG}})
    versions: dict[str, Any] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    body: str | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.set()
        self.requests.append((request.method, request.raw_path, request.headers.get("Authorization")))
        await self.gate.wait()
        if self.statuses:
            headers = {"Location": "http://elsewhere.invalid/"}
            return web.Response(status=self.statuses.pop(0), text=self.body or "{}", headers=headers)
        if self.body is not None:
            return web.Response(text=self.body)
        match [unquote(part) for part in request.raw_path.strip("/").split("/")]:
            case ["schemas", "ids", number]:
                found = self.schemas.get(int(number))
                missing = {"error_code": 40403, "message": "Schema not found"}
                return web.json_response(found or missing, status=200 if found else 404)
            case ["subjects", name, "versions", number] if f"{name}/{number}" in self.versions:
                return web.json_response(self.versions[f"{name}/{number}"])
            case ["subjects", _, "versions"] if request.method == "POST":
                return web.json_response({"id": 7})
        return web.json_response({"error_code": 404, "message": "HTTP 404 Not Found"}, status=404)

    def client(self, **options: Any) -> SchemaRegistry:
        settings = {name: options.pop(name) for name in [*options] if name in Settings.model_fields}
        return SchemaRegistry(Settings(url=self.url, **settings), **options)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A registry with one schema."""
    registry = Served()
    registry.gate.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    async with TestServer(app) as server:
        registry.url = str(server.make_url("")).rstrip("/")
        yield registry


async def refusal(client: SchemaRegistry, number: int = 1) -> ReplicatorError:
    """The error that asking for a schema ends in."""
    with pytest.raises(ReplicatorError) as caught:
        await client.schema(RegistrySchema("id", number))
    await client.close()
    return caught.value


async def test_a_schema_is_fetched_once(served: Served) -> None:
    """Ten that ask at the same time, and one later, cost one request; one of them may give up meanwhile."""
    client = served.client()
    served.gate.clear()
    asking = [asyncio.create_task(client.schema(RegistrySchema("id", 1))) for _ in range(10)]
    await served.asked.wait()
    asking[0].cancel()
    served.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [LONG] * 9 == answers[1:]
    assert LONG == await client.schema(RegistrySchema("id", 1))
    assert [("GET", "/schemas/ids/1", None)] == served.requests
    await client.close()


async def test_failures_that_pass_are_waited_for(served: Served) -> None:
    """A registry that answers 5xx or 429 a few times is asked again; the log says so once, and when it answers."""
    served.statuses += [503, 500, 429]
    client = served.client()
    with structlog.testing.capture_logs() as told:
        assert LONG == await client.schema(RegistrySchema("id", 1))
    assert 4 == len(served.requests)
    assert ["waiting for the schema registry", "the schema registry answers again"] == [one["event"] for one in told]
    await client.close()


async def test_failures_that_stay_are_a_lost_connection(served: Served) -> None:
    """After its patience the client gives up in a way that is retried, and begins anew when asked again."""
    served.statuses += [503] * 100
    client = served.client(patience_seconds=0.3)
    with pytest.raises(ReplicatorError, match="answered 503") as caught:
        await client.schema(RegistrySchema("id", 1))
    assert ErrorKind.CONNECTION is caught.value.kind
    served.statuses.clear()
    assert LONG == await client.schema(RegistrySchema("id", 1))
    await client.close()


async def test_nobody_listens(served: Served, unused_tcp_port: int) -> None:
    """A refused connection is retried, then told with the URL."""
    client = SchemaRegistry(Settings(url=f"http://127.0.0.1:{unused_tcp_port}"), patience_seconds=0.2)
    error = await refusal(client)
    assert ErrorKind.CONNECTION is error.kind
    assert str(unused_tcp_port) in str(error)


async def test_a_slow_registry_times_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request has an end, also where the server has none."""
    monkeypatch.setattr(subject, "REQUEST_SECONDS", 0.1)
    served.gate.clear()
    error = await refusal(served.client(patience_seconds=0.1))
    served.gate.set()
    assert ErrorKind.CONNECTION is error.kind
    assert "in time" in str(error)


async def test_an_unknown_id_names_id_and_registry(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for again for a moment (a follower may lag behind), then it stops the feed."""
    monkeypatch.setattr(subject, "UNKNOWN_SECONDS", 0.2)
    error = await refusal(served.client(), 99)
    assert ErrorKind.DECODE is error.kind
    assert f"{served.url} doesn't know schema id 99" in str(error)
    assert len(served.requests) > 1


@pytest.mark.parametrize("status", [401, 403])
async def test_refused(served: Served, status: int) -> None:
    """Wrong credentials are told, and never repeated in the message."""
    served.statuses += [status]
    error = await refusal(served.client(user="who", password=Secret("s3cret")))
    assert ErrorKind.PERMISSION is error.kind
    assert "s3cret" not in f"{error}{error.__cause__}"
    assert 1 == len(served.requests)


async def test_credentials_are_sent(served: Served) -> None:
    """User and password go along, as UTF-8."""
    client = served.client(user="wer", password=Secret("geheimniß"))
    await client.schema(RegistrySchema("id", 1))
    sent = served.requests[0][2] or ""
    assert "wer:geheimniß" == base64.b64decode(sent.removeprefix("Basic ")).decode()
    await client.close()


@pytest.mark.parametrize(
    "statuses, body",
    [([], "<html>"), ([], "7"), ([], '{"id": 1}'), ([302], None), ([404], "<html>"), ([204], "")],
)
async def test_not_a_registry(served: Served, statuses: list[int], body: str | None) -> None:
    """Whatever else answers at the URL: what the URL should be."""
    served.statuses, served.body = statuses, body
    error = await refusal(served.client())
    assert ErrorKind.CONFIG is error.kind
    assert "http://HOST:8081" in str(error)


async def test_a_path_that_it_has_not(served: Served) -> None:
    """A server's own 404 is no word on the schema."""
    served.url += "/wrong"
    error = await refusal(served.client())
    assert ErrorKind.CONFIG is error.kind


async def test_a_schema_of_another_kind(served: Served) -> None:
    """JSON Schema and Protobuf are named as what they are."""
    served.schemas[1] = {"schema": "{}", "schemaType": "JSON"}
    error = await refusal(served.client())
    assert ErrorKind.DECODE is error.kind
    assert "is JSON, not Avro" in str(error)


async def test_references_are_written_into_the_schema(served: Served) -> None:
    """A schema whose types lie under other subjects comes as one that needs nothing else."""
    fields = [
        {"name": "row", "type": ["null", "a.Row"]},
        {"name": "more", "type": {"type": "array", "items": "b.Pair"}},
    ]
    pair = [{"name": "left", "type": "a.Row"}, {"name": "right", "type": "a.Row"}]
    served.schemas[1] = {
        "schema": json.dumps({"type": "record", "name": "Top", "fields": fields}),
        "references": [
            {"name": "a.Row", "subject": "rows", "version": 3},
            {"name": "b.Pair", "subject": "b/pairs", "version": 1},
        ],
    }
    served.versions["rows/3"] = {"schema": ROW}
    served.versions["b/pairs/1"] = {
        "schema": json.dumps({"type": "record", "name": "b.Pair", "fields": pair}),
        "references": [{"name": "a.Row", "subject": "rows", "version": 3}],
    }
    client = served.client()
    text = await client.schema(RegistrySchema("id", 1))
    parse_schema(json.loads(text), {})
    row, more = json.loads(text)["fields"]
    assert json.loads(ROW) == row["type"][1]
    assert ["a.Row", "a.Row"] == [one["type"] for one in more["type"]["items"]["fields"]]
    await client.close()


async def test_registering(served: Served) -> None:
    """A schema is registered once under its subject, and its id comes back."""
    client = served.client()
    name = "old.public.a b/c-key"
    assert 7 == await client.register(name, LONG)
    assert 7 == await client.register(name, LONG)
    assert [("POST", "/subjects/old.public.a%20b%2Fc-key/versions", None)] == served.requests
    await client.close()


@pytest.mark.parametrize("status, why", [(409, "incompatible"), (422, "invalid")])
async def test_a_schema_that_is_refused(served: Served, status: int, why: str) -> None:
    """The subject is named, and what to do."""
    served.statuses += [status]
    client = served.client()
    with pytest.raises(ReplicatorError, match=f"old-value.*{why}") as caught:
        await client.register("old-value", LONG)
    assert ErrorKind.SCHEMA is caught.value.kind
    await client.close()


@dataclass(frozen=True)
class Authority:
    """A private authority, and a server's certificate and key by it."""

    ca: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Made by openssl."""
    home = tmp_path_factory.mktemp("authority")
    made = Authority(home / "ca.pem", home / "server.pem", home / "server.key")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    own: list[str | Path] = ["-subj", "/CN=authority", "-keyout", home / "ca.key", "-out", made.ca]
    by: list[str | Path] = ["-CA", made.ca, "-CAkey", home / "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    name = ["-subj", "/CN=registry", "-addext", "subjectAltName=DNS:localhost"]
    for rest in (own, [*by, *name, "-keyout", made.key, "-out", made.certificate]):
        subprocess.run(["openssl", "req", "-x509", *curve, *rest], check=True, capture_output=True)
    return made


@pytest.fixture
async def served_by_tls(authority: Authority, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """The same registry by https."""
    registry = Served()
    registry.gate.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate, authority.key)
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED if getattr(request, "param", None) == "mutual" else ssl.CERT_NONE
    server = TestServer(app, scheme="https", host="127.0.0.1")
    await server.start_server(ssl=context)
    registry.url = f"https://localhost:{server.port}"
    yield registry
    await server.close()


async def test_tls_by_a_private_authority(served_by_tls: Served, authority: Authority) -> None:
    """With its certificate the authority is believed."""
    client = served_by_tls.client(ca_file=str(authority.ca))
    assert LONG == await client.schema(RegistrySchema("id", 1))
    await client.close()


async def test_tls_by_a_stranger(served_by_tls: Served) -> None:
    """Without it nobody is, and the message says which setting is missing."""
    error = await refusal(served_by_tls.client(patience_seconds=0.1))
    assert ErrorKind.CONNECTION is error.kind
    assert "not trusted" in str(error)
    assert "ca_file" in str(error)


async def test_tls_for_another_host(served_by_tls: Served, authority: Authority) -> None:
    """A certificate for another name is not enough."""
    served_by_tls.url = served_by_tls.url.replace("localhost", "127.0.0.1")
    error = await refusal(served_by_tls.client(patience_seconds=0.1, ca_file=str(authority.ca)))
    assert "not trusted" in str(error)


@pytest.mark.parametrize("served_by_tls", ["mutual"], indirect=True)
async def test_tls_with_a_certificate_of_ours(served_by_tls: Served, authority: Authority) -> None:
    """A registry that asks for a certificate gets ours, and none answers without it."""
    ours = {"certificate_file": str(authority.certificate), "key_file": str(authority.key)}
    client = served_by_tls.client(ca_file=str(authority.ca), **ours)
    assert LONG == await client.schema(RegistrySchema("id", 1))
    await client.close()
    error = await refusal(served_by_tls.client(patience_seconds=0.1, ca_file=str(authority.ca)))
    assert ErrorKind.CONNECTION is error.kind


def test_files_that_cannot_be_read(tmp_path: Path, authority: Authority) -> None:
    """The setting is named before anything is asked."""
    for path in (tmp_path / "absent.pem", tmp_path):
        with pytest.raises(ReplicatorError, match="ca_file can't be read"):
            SchemaRegistry(Settings(url="https://localhost", ca_file=str(path)))
    with pytest.raises(ReplicatorError, match="certificate_file can't be read"):
        SchemaRegistry(Settings(url="https://localhost", certificate_file=str(authority.ca)))
