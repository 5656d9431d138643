"""Kafka Connect's REST interface, as far as a demo and tests need it."""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from replicator.demo.kafka_parts.fetch import PartsError

TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.1
_REBALANCING = 409

State = Literal["RUNNING", "PAUSED", "STOPPED", "FAILED"]


class ConnectRest:
    """A client of one worker. Every method blocks; PartsError carries what the worker answered.

    What answers 409 (the worker's group is rebalancing) is asked again until a minute has passed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = urlsplit(url).netloc

    def create(self, name: str, config: Mapping[str, str]) -> None:
        """Make this connector, and wait until its task runs; a source has its slot by then.

        Where it is there already it gets this configuration; the task starts anew some time later.
        """
        self._call("PUT", f"/connectors/{quote(name)}/config", config)
        self.wait_for(name, "RUNNING")

    def wait_for(self, name: str, state: State, seconds: float = TIMEOUT_SECONDS) -> None:
        """Wait until the connector and its tasks are in this state; PartsError where one fails, with its trace."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(name)
            parts = [status.get("connector", {}), *status.get("tasks", [])]
            states = [part.get("state") for part in parts]
            complete = len(parts) > 1 or state == "STOPPED"  # a stopped connector has no tasks
            if complete and set(states) == {state}:
                return
            if "FAILED" in states:
                traces = "\n".join(part.get("trace", "") for part in parts)
                raise PartsError(f"connector {name} failed:\n{traces[:4000]}")
            if time.monotonic() > deadline:
                raise PartsError(f"connector {name} is not {state} after {seconds:.0f} s, but {states}")
            time.sleep(POLL_SECONDS)

    def status(self, name: str) -> dict[str, Any]:
        """Return the states of the connector and its tasks; empty where the worker doesn't know it yet."""
        found: dict[str, Any] = self._call("GET", f"/connectors/{quote(name)}/status", absent={})
        return found

    def offsets(self, name: str) -> list[dict[str, Any]]:
        """Return the committed source offsets: `[{"partition": {…}, "offset": {…}}]`."""
        found: list[dict[str, Any]] = self._call("GET", f"/connectors/{quote(name)}/offsets")["offsets"]
        return found

    def pause(self, name: str) -> None:
        """Pause its tasks, and wait for it; they keep what they hold."""
        self._call("PUT", f"/connectors/{quote(name)}/pause")
        self.wait_for(name, "PAUSED")

    def stop(self, name: str) -> None:
        """End its tasks, and wait for it; the connector stays, and `resume` starts them again."""
        self._call("PUT", f"/connectors/{quote(name)}/stop")
        self.wait_for(name, "STOPPED")

    def resume(self, name: str) -> None:
        """Let a paused or stopped connector run again, and wait for it."""
        self._call("PUT", f"/connectors/{quote(name)}/resume")
        self.wait_for(name, "RUNNING")

    def delete(self, name: str) -> None:
        """Remove the connector, and wait until its tasks have ended (they hold a replication slot until then)."""
        self._call("DELETE", f"/connectors/{quote(name)}", absent=None)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.status(name):
            if time.monotonic() > deadline:
                raise PartsError(f"connector {name} is still there {TIMEOUT_SECONDS:.0f} s after it was deleted")
            time.sleep(POLL_SECONDS)

    def answers(self) -> bool:
        """Whether the worker takes requests: it listens for seconds before it does."""
        try:
            status, _ = self._once("GET", "/connectors")
        except (OSError, http.client.HTTPException):
            return False
        return status == 200

    def _call(self, method: str, path: str, body: Mapping[str, str] | None = None, **absent: Any) -> Any:
        """Return the answer; `absent`, where given, is returned for a 404."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                status, answer = self._once(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                raise PartsError(f"Kafka Connect at {self.url} doesn't answer {method} {path}: {error}") from error
            if status == 404 and absent:
                return absent["absent"]
            if status < 400:
                return json.loads(answer) if answer else None
            if status != _REBALANCING or time.monotonic() > deadline:
                raise PartsError(f"Kafka Connect answers {method} {path} with {status}: {answer[:4000]}")
            time.sleep(POLL_SECONDS)

    def _once(self, method: str, path: str, body: Mapping[str, str] | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        try:
            sent = None if body is None else json.dumps(dict(body))
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()
