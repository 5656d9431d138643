"""A client of schema registries: Confluent's REST API, which Karapace and Apicurio have too, and Apicurio's own.

Confluent's: https://docs.confluent.io/platform/current/schema-registry/develop/api.html. Apicurio serves it below
`/apis/ccompat/v7`, where an id is its contentId; its own API, `/apis/registry/v3` (v2 before 3.0), knows global ids
too: https://www.apicurio.io/registry/docs/apicurio-registry/3.0.x/assets-attachments/registry-rest-api.htm.

`schema_registry.url` is, for Confluent's and what is like it, the base (http://registry:8081); for Apicurio the path of
either API (http://registry:8080/apis/ccompat/v7, or .../apis/registry/v3): the other one is found from it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import structlog
from yarl import URL

from replicator.errors import ErrorKind, ReplicatorError
from replicator.kafka.references import inline

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from replicator.config.streams import SchemaRegistry as Settings
    from replicator.records import RegistrySchema

REQUEST_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 20.0
"""How long a registry that fails is asked again, before the caller hears of it."""
UNKNOWN_SECONDS: Final = 2.0
"""How long an unknown id is asked for again: a follower among the registries learns of a new schema a little later."""
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.1, 2.0
_BYTES_MAX: Final = 16 << 20
_REFERENCES_MAX: Final = 1_000
_CONTENT: Final = "application/vnd.schemaregistry.v1+json"
_CCOMPAT: Final = "ccompat/v7"
_APICURIO: Final = "registry/v3"


@dataclass(frozen=True)
class Answer:
    """What a registry answered: the status, and the body as JSON (None where it is none)."""

    status: int
    body: Any


class SchemaRegistry:
    """`partitions.Registry` over HTTP, and the registration of schemas for a producer.

    Answers are kept: a schema never changes under its id. Who asks for one that is being fetched waits for that.

    Args:
        settings: URL, authority, certificate and user.
        patience_seconds: how long a registry that doesn't answer, or answers 5xx, is asked again.

    Raises:
        ReplicatorError: CONFIG, when a certificate can't be read.

    """

    def __init__(self, settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.url = settings.url.rstrip("/")
        self._confluent, self._apicurio = _addresses(self.url)
        self._patience = patience_seconds
        self._tls = _tls(settings)
        self._headers = {"Accept": f"{_CONTENT}, application/json, */*"}
        if settings.user is not None:
            password = settings.password.reveal() if settings.password else ""
            basic = base64.b64encode(f"{settings.user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {basic}"
        self._session: aiohttp.ClientSession | None = None
        self._schemas: dict[RegistrySchema, asyncio.Task[str]] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._away = False
        self._log = structlog.get_logger("replicator.kafka")

    async def schema(self, schema: RegistrySchema) -> str:
        """The schema's text, with what it refers to written into it.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION; DECODE for an id that the registry doesn't know, or no Avro; CONFIG
                when the URL is not a registry's.

        """
        task = self._schemas.get(schema)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(schema), name=f"schema {schema.id}")
            self._schemas[schema] = task
            task.add_done_callback(lambda done: self._forget(schema, done))
        return await asyncio.shield(task)

    async def register(self, subject: str, schema: str) -> int:
        """Make a schema known under a subject, or find it there.

        Args:
            subject: `<topic>-key` or `<topic>-value`, where every consumer looks by default.
            schema: Avro's JSON.

        Returns:
            Its id, as Confluent's framing carries it.

        Raises:
            ReplicatorError: SCHEMA when the registry refuses it (incompatible with what the subject has; invalid);
                CONNECTION, PERMISSION, CONFIG.

        """
        known = self._ids.get((subject, schema))
        if known is not None:
            return known
        path = f"{self._confluent}/subjects/{quote(subject, safe='')}/versions"
        answer = await self._ask("POST", path, json.dumps({"schema": schema}).encode())
        if answer.status in {409, 422}:
            raise ReplicatorError(
                f"the registry at {self.url} refuses the new schema of {subject} "
                + ("as incompatible with its earlier one" if answer.status == 409 else "as invalid"),
                kind=ErrorKind.SCHEMA,
                hint="Nothing was published with it. Set that subject's compatibility to what its readers can bear "
                "(ours bear NONE: each record is read by its own schema), or change the table so that it is compatible",
            )
        found = answer.body.get("id") if isinstance(answer.body, dict) else None
        if answer.status != 200 or not isinstance(found, int):
            self._no_registry(answer.status)
        self._ids[subject, schema] = found
        return found

    async def check(self) -> None:
        """Whether a registry answers, and lets us in.

        Raises:
            ReplicatorError: CONNECTION, PERMISSION, CONFIG.

        """
        answer = await self._ask("GET", f"{self._confluent}/schemas/types")
        if answer.status != 200 or not isinstance(answer.body, list):
            self._no_registry(answer.status)

    async def close(self) -> None:
        """End its connections. Idempotent."""
        tasks = [task for task in self._schemas.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _forget(self, schema: RegistrySchema, task: asyncio.Task[str]) -> None:
        """Only what was found is kept."""
        if task.cancelled() or task.exception() is not None:
            self._schemas.pop(schema, None)

    async def _fetch(self, schema: RegistrySchema) -> str:
        by_confluent = schema.kind == "id" and self._confluent == self.url
        if by_confluent:
            path = f"{self._confluent}/schemas/ids/{schema.id}"
        else:
            ids = "globalIds" if schema.kind == "global" else "contentIds"
            path = f"{self._apicurio}/ids/{ids}/{schema.id}"
        answer = await self._known(path, schema)
        if answer.status != 200 or not isinstance(answer.body, dict | list | str):
            self._no_registry(answer.status)
        if not by_confluent:
            return json.dumps(inline(answer.body, await self._apicurio_references(path)))
        if not isinstance(answer.body, dict):
            self._no_registry(answer.status)
        kind = answer.body.get("schemaType", "AVRO")
        if kind != "AVRO":
            raise ReplicatorError(
                f"schema {schema.id} of the registry at {self.url} is {kind}, not Avro",
                kind=ErrorKind.DECODE,
                hint="The producer's converters must be Avro's, for keys and values",
            )
        return await self._resolved(answer.body, schema)

    async def _known(self, path: str, schema: RegistrySchema) -> Answer:
        """The answer for an id, unless the registry doesn't know it."""
        ends = time.monotonic() + min(UNKNOWN_SECONDS, self._patience)
        while True:
            answer = await self._ask("GET", path)
            if answer.status != 404 or not _is_not_found(answer.body):
                return answer
            if time.monotonic() >= ends:
                break
            await asyncio.sleep(_PAUSE_SECONDS_MIN)
        what = "global id" if schema.kind == "global" else "schema id"
        raise ReplicatorError(
            f"the registry at {self.url} doesn't know {what} {schema.id}",
            kind=ErrorKind.DECODE,
            hint="Nothing was skipped. Is stream.schema_registry.url the registry (and its context or tenant) of "
            "whoever writes the topic? A schema that was deleted there can be brought back under its id (mode IMPORT)",
        )

    async def _resolved(self, answer: Mapping[str, Any], schema: RegistrySchema) -> str:
        """A schema of Confluent's API with its references written into it."""
        text = answer.get("schema")
        if not isinstance(text, str):
            self._no_registry(200)
        found: dict[str, Any] = {}
        waiting = _references(answer)
        while waiting and len(found) < _REFERENCES_MAX:
            subject, version = waiting.pop()
            path = f"{self._confluent}/subjects/{quote(subject, safe='')}/versions/{quote(version, safe='')}"
            if path in found:
                continue
            part = await self._known(path, schema)
            if part.status != 200 or not isinstance(part.body, dict):
                self._no_registry(part.status)
            found[path] = _parsed(part.body.get("schema"), schema, self.url)
            waiting += _references(part.body)
        return json.dumps(inline(_parsed(text, schema, self.url), found.values())) if found else text

    async def _apicurio_references(self, path: str) -> list[Any]:
        """What a schema of Apicurio's own API refers to, and what that refers to."""
        found: dict[str, Any] = {}
        waiting = [path]
        while waiting:
            listed = await self._ask("GET", f"{waiting.pop()}/references")
            for one in listed.body if listed.status == 200 and isinstance(listed.body, list) else ():
                group, artifact, version = (
                    quote(str(one.get(name) or "default"), safe="") for name in ("groupId", "artifactId", "version")
                )
                address = f"{self._apicurio}/groups/{group}/artifacts/{artifact}/versions/{version}"
                if address in found or len(found) >= _REFERENCES_MAX:
                    continue
                # v3 has the content beside the version's description, v2 in its place.
                part = await self._ask("GET", address if self._apicurio.endswith("/v2") else f"{address}/content")
                if part.status != 200:
                    self._no_registry(part.status)
                found[address] = part.body
                waiting.append(address)
        return list(found.values())

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """An answer that is neither a failure of the registry nor a refusal of this user.

        Raises:
            ReplicatorError: CONNECTION after `patience_seconds`; PERMISSION; CONFIG.

        """
        ends = time.monotonic() + self._patience
        pause = _PAUSE_SECONDS_MIN
        answer: Answer | None = None
        while answer is None:
            try:
                answer = await self._request(method, path, body)
            except ReplicatorError as error:
                if error.kind is not ErrorKind.CONNECTION or time.monotonic() + pause >= ends:
                    raise
                self._missed(error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
                pause = min(pause * 2, _PAUSE_SECONDS_MAX)
        if self._away:
            self._away = False
            self._log.info("the schema registry answers again", url=self.url)
        if answer.status in {401, 403}:
            raise ReplicatorError(
                f"the registry at {self.url} refuses this user ({answer.status})",
                kind=ErrorKind.PERMISSION,
                hint="Correct user and password of stream.schema_registry; reading schemas"
                + (" and registering them" if method == "POST" else "")
                + " must be allowed",
            )
        return answer

    def _missed(self, error: ReplicatorError) -> None:
        """Say it, once an outage: until the patience is over nothing else tells why the feed stands still."""
        if not self._away:
            self._away = True
            self._log.warning("waiting for the schema registry", error=error.message, **error.facts())

    async def _request(self, method: str, path: str, body: bytes | None) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS))
        headers = self._headers | ({"Content-Type": _CONTENT} if body else {})
        text = bytearray()
        try:
            # Not followed: credentials would go to an address that nobody has configured.
            async with self._session.request(
                method, URL(path, encoded=True), data=body, headers=headers, ssl=self._tls, allow_redirects=False
            ) as answer:
                async for block in answer.content.iter_any():
                    text += block
                    if len(text) > _BYTES_MAX:
                        self._no_registry(answer.status)
                status = answer.status
        except TimeoutError as error:
            raise self._lost("it doesn't answer in time") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._lost(f"its certificate is not trusted ({error.certificate_error})") from error
        except ValueError as error:  # aiohttp.InvalidURL, or yarl's own
            raise self._not_configured("its URL can't be read") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(type(error).__name__) from error
        if status >= 500 or status in {408, 425, 429}:
            raise self._lost(f"it answered {status}")
        document: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(text)
        return Answer(status, document)

    def _lost(self, why: str) -> ReplicatorError:
        return ReplicatorError(
            f"the registry at {self.url} can't be asked: {why}",
            kind=ErrorKind.CONNECTION,
            hint="Asked again until it answers; nothing is lost meanwhile. With an authority of your own set "
            "stream.schema_registry.ca_file",
        )

    def _no_registry(self, status: int) -> NoReturn:
        raise self._not_configured(f"it answers {status} with something else")

    def _not_configured(self, why: str) -> ReplicatorError:
        return ReplicatorError(
            f"what stream.schema_registry.url names ({self.url}) is no schema registry: {why}",
            kind=ErrorKind.CONFIG,
            hint="Confluent's and Karapace's URL is http://HOST:8081, Apicurio's http://HOST:8080/apis/ccompat/v7",
        )


def _addresses(url: str) -> tuple[str, str]:
    """Bases of Confluent's API and of Apicurio's own. Equal where the URL is Apicurio's own: all goes through it."""
    base, found, path = url.partition("/apis/")
    if not found:
        return url, f"{url}/apis/{_APICURIO}"
    if path.startswith("registry/"):
        return f"{base}/apis/{_CCOMPAT}", url
    return url, f"{base}/apis/{_APICURIO}"


def _tls(settings: Settings) -> ssl.SSLContext | bool:
    """How a registry by https is believed, and believes us; True: by the system's authorities."""
    if settings.ca_file is None and settings.certificate_file is None:
        return True
    setting, path = "ca_file", settings.ca_file
    try:
        context = ssl.create_default_context(cafile=path)
        if settings.certificate_file is not None:
            setting, path = "certificate_file", settings.certificate_file
            # Where the key is encrypted, nobody is there to be asked for its password.
            context.load_cert_chain(path, settings.key_file, password="")
    except (OSError, ValueError) as error:
        raise ReplicatorError(
            f"stream.schema_registry.{setting} can't be read: {path}: {getattr(error, 'strerror', None) or error}",
            kind=ErrorKind.CONFIG,
            hint="It is a file in PEM; a key must not be encrypted, and belong to its certificate",
        ) from error
    return context


def _references(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Subject and version of each schema that this one refers to."""
    listed = answer.get("references") or ()
    return [(str(one.get("subject")), str(one.get("version"))) for one in listed if isinstance(one, dict)]


def _is_not_found(body: Any) -> bool:
    """Whether a 404 is a registry's word on an id or subject, not a server's on a path that it doesn't have."""
    return isinstance(body, dict) and body.get("error_code") != 404 and ("error_code" in body or "name" in body)


def _parsed(text: Any, schema: RegistrySchema, url: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise ReplicatorError(
            f"schema {schema.id} of the registry at {url} refers to something that is no Avro",
            kind=ErrorKind.DECODE,
            hint="Only references from Avro to Avro can be followed",
        ) from None
