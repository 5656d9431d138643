"""What a feed by Kafka must not read past: it stops there, says what and why, and does so again at each start.

All connectors are of one daemon: each has a topic and a table of its own, so what stops one of them stops no other.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # exported, not in __all__

from tests.connector_files import free_address, write_connector
from tests.debezium_tables import envelope
from tests.fix_kafka import Kafka
from tests.fix_postgres import Database, MakeDatabase
from tests.fix_replicator import ReplicatorProcess, StartReplicator
from tests.polling import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

AVRO: Final = b"\x00\x00\x00\x00\x07rest"
UNREADABLE: Final[Mapping[str, tuple[str, bytes, str, str]]] = {
    "truncated": ("json", b'{"before": null, "after": {"id": 2, ', "no JSON that can be read", "Nothing was skipped"),
    "deep": ("json", b'{"after": ' + b"[" * 300_000, "no JSON that can be read", "Nothing was skipped"),
    "unknown_op": ("json", json.dumps(envelope("public.unknown_op", "x", None, {"id": 2})).encode(), "op", "skipped"),
    "misrouted": (
        "json",
        json.dumps(envelope("public.unmapped", "c", None, {"id": 2, "note": ""}, txId=None, sequence=None)).encode(),
        "public.unmapped",
        "skipped",
    ),
    "avro_as_json": ("json", AVRO, "Avro", "stream.format to debezium-avro"),
    "json_as_avro": ("avro", b'{"before": null}', "JSON, not Avro", "stream.format to debezium-json"),
    "wrong_magic": ("avro", b"\x07\x00\x00\x00\x01rest", "begins with 07 00 00 00 01", "value.converter"),
    "unknown_schema": ("avro", b"\x00\x7f\xff\xff\xff\x00", "doesn't know schema id 2147483647", "schema_registry.url"),
}
"""Of each connector: the format it is told, a record, what the error says of it, and what to do."""
LOST: Final = {"trimmed": "begins at 3", "made_again": "made again", "deleted": "is gone"}
ALL: Final = (*UNREADABLE, *LOST, "well")


class Topics:
    """Everything that stops, and one connector that doesn't."""

    def __init__(self, kafka: Kafka, registry: str, old: Database, upgraded: Database, prefix: str) -> None:
        self.old, self.upgraded = old, upgraded
        self._kafka = kafka
        self._registry = registry
        self._prefix = prefix
        self.admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        self.address = free_address()
        for database in (old, upgraded):
            for name in (*ALL, "beside"):
                database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, note text, CHECK (id >= 0))")
        old.execute("CREATE TABLE unmapped (id int PRIMARY KEY, note text)")
        self.make(*ALL)

    def write(self, folder: Path) -> None:
        """Their files. `truncated` and `well` set aside what the upgraded side refuses."""
        for name in ALL:
            kind = UNREADABLE[name][0] if name in UNREADABLE else "json"
            # A topic of two tables says of each record which one it is of.
            tables = [name, "beside"] if name == "well" else [name]
            stream: dict[str, Any] = {
                "kind": "kafka",
                "bootstrap_servers": self._kafka.bootstrap,
                "format": f"debezium-{kind}",
                "topic_prefix": self._prefix,
                "topics": {f"public.{table}": self.topic(name) for table in tables},
                "group": f"{self._prefix}_{name}",
            }
            if kind == "avro":
                stream["schema_registry"] = {"url": self._registry}
            write_connector(
                folder,
                self.old,
                self.upgraded,
                name=name,
                tables=[{"old": f"public.{table}"} for table in tables],
                stream=stream,
                backfill={"enabled": "off"},
                apply={"on_error": "dlq" if name in {"truncated", "well"} else "stop"},
                http={"listen": self.address},
            )

    def topic(self, name: str) -> str:
        return f"{self._prefix}.public.{name}"

    def make(self, *names: str) -> None:
        for answer in self.admin.create_topics([NewTopic(self.topic(name), 1, 1) for name in names]).values():
            answer.result(20)

    def delete(self, name: str) -> None:
        (answer,) = self.admin.delete_topics([self.topic(name)]).values()
        answer.result(20)
        wait_until(lambda: self.topic(name) not in self.admin.list_topics(timeout=10).topics, 60)

    def say(self, name: str, *values: bytes | int) -> None:
        """Write records: these bytes, or that a row of this id is new."""
        producer = Producer({"bootstrap.servers": self._kafka.bootstrap})
        for value in values:
            producer.produce(self.topic(name), new(name, value) if isinstance(value, int) else value)
        producer.flush(20)

    def ids(self, name: str) -> list[int]:
        return sorted(int(row[0]) for row in self.upgraded.execute(f"SELECT id FROM {name}"))

    def status(self) -> dict[str, dict[str, Any]]:
        """What the daemon says of each connector."""
        with urllib.request.urlopen(f"http://{self.address}/api/v1/status", timeout=20) as answer:
            return {one["connector"]: one for one in json.load(answer)["connectors"]}


def new(name: str, number: int) -> bytes:
    """The record of an INSERT, by a transaction that nobody has to wait for."""
    row = {"id": number, "note": "n"}
    return json.dumps(envelope(f"public.{name}", "c", None, row, txId=None, sequence=None)).encode()


def failed(daemon: ReplicatorProcess) -> dict[str, dict[str, Any]]:
    """The connectors of a daemon that have stopped, and why."""
    return {line["connector"]: line for line in daemon.logged("connector failed")}


@pytest.fixture
def topics(
    make_database: MakeDatabase, real_kafka: Kafka, kafka_registry: str, topic_prefix: str, tmp_path: Path
) -> Topics:
    made = Topics(real_kafka, kafka_registry, make_database(), make_database(), topic_prefix)
    made.write(tmp_path)
    return made


def test_each_stops_for_itself(topics: Topics, replicator_process: StartReplicator, tmp_path: Path) -> None:
    """Bytes that can't be read, and logs that have lost something: kind, place and remedy are in the log and in
    `status`, nothing is skipped, another start says the same, and the neighbour goes on.
    """

    def settled(rows: int, running: ReplicatorProcess) -> bool:
        return topics.ids("well") == list(range(1, rows + 1)) or "well" in failed(running)

    for name in (*LOST, "well"):
        topics.say(name, 1)
    for name, (kind, value, _, _) in UNREADABLE.items():
        topics.say(name, *([1] if kind == "json" else []), value, *([3] if kind == "json" else []))
    daemon = replicator_process(["run", str(tmp_path)])
    wait_until(lambda: failed(daemon).keys() >= UNREADABLE.keys() and all(topics.ids(one) for one in LOST), 90)
    refused_everywhere(topics, failed(daemon))

    # Two keys of one name: the last counts, as for Kafka Connect's own reader. Other tables say nothing here.
    twice = new("well", 2).replace(b'"op": "c"', b'"op": "d", "op": "c"')
    assert twice != new("well", 2)
    topics.say("well", twice, new("unmapped", 5), -1, 3)
    topics.delete("deleted")
    wait_until(lambda: "deleted" in failed(daemon) and settled(3, daemon), 90)
    assert {*UNREADABLE, "deleted"} == failed(daemon).keys()
    assert 1 == topics.status()["well"]["dead_letters"]
    daemon.terminate()
    assert 1 == daemon.wait(60), daemon.story()

    topics.say("trimmed", 2, 3, 4)
    (trimmed,) = topics.admin.delete_records([TopicPartition(topics.topic("trimmed"), 0, 3)]).values()
    trimmed.result(20)
    topics.delete("made_again")
    topics.make("made_again")
    topics.say("made_again", 5, 6)
    topics.say("well", 4)
    again = replicator_process(["run", str(tmp_path)])
    wait_until(lambda: failed(again).keys() >= {*UNREADABLE, *LOST} and settled(4, again), 90)
    refused_everywhere(topics, failed(again))
    assert {*UNREADABLE, *LOST} == failed(again).keys()
    for name, why in LOST.items():
        assert "log_lost" == failed(again)[name]["error_kind"]
        assert why in failed(again)[name]["error"]
        assert failed(again)[name]["hint"]
        assert [1] == topics.ids(name)
    assert "streaming" == topics.status()["well"]["state"]
    shown = replicator_process(["status", str(tmp_path / "trimmed.yaml")])
    assert 1 == shown.wait(), shown.story()
    assert "begins at 3" in shown.stdout
    assert "log_lost" in shown.stdout
    again.terminate()
    assert 1 == again.wait(60), again.story()


def refused_everywhere(topics: Topics, reasons: Mapping[str, Mapping[str, Any]]) -> None:
    """Each unreadable record is named, with a remedy, and stands where it stood."""
    documents = topics.status()
    for name, (kind, _, why, remedy) in UNREADABLE.items():
        said, document = reasons[name], documents[name]
        assert "decode" == said["error_kind"], said
        assert why in said["error"], said
        assert remedy in said["hint"], said
        assert ("failed", "decode") == (document["state"], document["error"]["kind"])
        assert f"{said['error']}. {said['hint']}" == document["error"]["message"]
        if kind == "json":
            assert f"{topics.topic(name)}/0:1" in said["error"]
        assert ([1] if kind == "json" else []) == topics.ids(name)
