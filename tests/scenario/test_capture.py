"""`replicator capture` as its operator has it: killed and frozen at any moment, Kafka has each change once, in order.

What was committed is kept by the old database itself: a trigger writes each change, with its transaction, into a table
`history` that is not captured. Records of one transaction are compared as what they say, in the order of their places.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections import defaultdict
from typing import Any, Self

import pytest
from confluent_kafka import Message

from tests.connector_files import write_connector
from tests.fix_capture import read_all
from tests.fix_kafka import Kafka, MakeKafka
from tests.fix_postgres import Database, MakeDatabase
from tests.fix_replicator import ReplicatorProcess, StartReplicator
from tests.polling import wait_until

KILLS = int(os.environ.get("REPLICATOR_KILLS", "5"))
SEED = int(os.environ.get("REPLICATOR_SEED", "0")) or random.randrange(1, 1 << 30)

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(240 + 20 * KILLS)]

TABLES = """
CREATE TABLE accounts (id bigint PRIMARY KEY, balance int NOT NULL, note text);
CREATE TABLE bag (v int);
ALTER TABLE bag REPLICA IDENTITY FULL;
CREATE SCHEMA aside;
CREATE TABLE aside.history (n bigserial PRIMARY KEY, xid bigint, tab text, op text, key text, after text);
CREATE FUNCTION aside.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO aside.history (xid, tab, op, key, after) VALUES (pg_current_xact_id()::text::bigint & 4294967295,
        TG_TABLE_NAME, TG_OP, CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE row_to_json(OLD)::text END,
        CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE row_to_json(NEW)::text END);
    RETURN NULL;
END $$;
CREATE TRIGGER keeps AFTER INSERT OR UPDATE OR DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION aside.keep();
CREATE TRIGGER keeps AFTER INSERT OR UPDATE OR DELETE ON bag FOR EACH ROW EXECUTE FUNCTION aside.keep();
"""


class Shop:
    """An old database that is captured, and who captures it."""

    def __init__(self, old: Database, upgraded: Database, kafka: Kafka, prefix: str, start: StartReplicator) -> None:
        self.old = old
        self.kafka = kafka
        self.prefix = prefix
        self.upgraded = upgraded
        self._start = start
        self._file: Any = None
        self.started: list[ReplicatorProcess] = []

    def write(self, folder: Any) -> None:
        self._file = write_connector(
            folder,
            self.old,
            self.upgraded,
            name=self.prefix,
            stream={
                "kind": "kafka",
                "bootstrap_servers": self.kafka.bootstrap,
                "format": "debezium-json",
                "topic_prefix": self.prefix,
                "capture": {"schemas": False},
            },
        )

    def capture(self, *options: str) -> ReplicatorProcess:
        process = self._start(["capture", str(self._file), "--listen", "127.0.0.1:0", *options])
        self.started.append(process)
        return process

    def capturing(self) -> ReplicatorProcess:
        process = self.capture()
        process.wait_for_log("streaming", 60)
        return process

    def finish(self) -> None:
        """Capture all that is left."""
        last = self.capture("--until", "caught-up")
        code = last.wait(120)
        assert code == 0, last.story()

    def read(self, *tables: str) -> list[Message]:
        return read_all(self.kafka.bootstrap, [f"{self.prefix}.public.{table}" for table in tables])

    def captured(self) -> bool:
        """Whether the slot has confirmed all that is committed now."""
        ((lsn,),) = self.old.execute("SELECT pg_current_wal_insert_lsn()")
        return bool(
            self.old.execute(
                "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn >= %s::pg_lsn",
                [f"replicator_{self.prefix}", lsn],
            )
        )

    def assert_once_and_in_order(self) -> None:
        """Kafka has what `history` has: each change once; each key's in order; whole transactions in order."""
        said: dict[int, list[tuple[int, str, str, Any, Any]]] = defaultdict(list)
        order: dict[str, list[int]] = defaultdict(list)
        for message in self.read("accounts", "bag"):
            if message.value() is None:
                continue
            record = json.loads(message.value() or b"")
            xid = record["source"]["txId"]
            place = record["transaction"]["total_order"]
            table = record["source"]["table"]
            said[xid].append((place, table, record["op"], record["before"], record["after"]))
            if not order[table] or order[table][-1] != xid:
                order[table].append(xid)
        for table, xids in order.items():
            assert len(xids) == len(set(xids)), f"transactions of {table} are interleaved, or come twice"
        kept: dict[int, list[tuple[str, str, Any, Any]]] = defaultdict(list)
        for xid, table, op, before, after in self.old.execute(
            "SELECT xid, tab, op, key, after FROM aside.history ORDER BY n"
        ):
            kept[xid] += _expected(table, op, before and json.loads(before), after and json.loads(after))
        assert kept.keys() == said.keys()
        for xid, changes in said.items():
            assert list(range(1, len(changes) + 1)) == sorted(place for place, *_ in changes), xid
            assert kept[xid] == [tuple(change) for _, *change in sorted(changes, key=lambda one: one[0])], xid


def _expected(table: str, op: str, before: Any, after: Any) -> list[tuple[str, str, Any, Any]]:
    """What the records of one change say."""
    if table == "bag":
        return [(table, {"INSERT": "c", "UPDATE": "u", "DELETE": "d"}[op], before, after)]
    gone = None if before is None else {"id": before["id"], "balance": 0, "note": None}
    if op == "INSERT":
        return [(table, "c", None, after)]
    if op == "DELETE":
        return [(table, "d", gone, None)]
    if before["id"] != after["id"]:
        return [(table, "d", gone, None), (table, "c", None, after)]
    return [(table, "u", None, after)]


class Writers:
    """Sessions that write until they are stopped."""

    def __init__(self, old: Database, seed: int, writers: int = 2) -> None:
        self._old = old
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(seed + n, n)) for n in range(writers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, seed: int, number: int) -> None:
        choose = random.Random(seed)
        key = number
        with self._old.connect() as session:
            while not self._stop.wait(0.004):
                for _ in range(choose.choice((1, 1, 2, 5, 60))):
                    key += 10
                    row = [choose.randrange(100), "n" * choose.choice((1, 30)), key]
                    match choose.randrange(7):
                        case 0 | 1 | 2:
                            session.execute("INSERT INTO accounts (balance, note, id) VALUES (%s, %s, %s)", row)
                        case 3:
                            session.execute(
                                "UPDATE accounts SET balance = %s, note = %s WHERE id = (SELECT max(id) FROM accounts"
                                " WHERE id %% 10 = %s)",
                                [*row[:2], number],
                            )
                        case 4:
                            session.execute("UPDATE accounts SET id = -id WHERE id = %s", [key - 10])
                        case 5:
                            session.execute("DELETE FROM accounts WHERE id = %s", [key - 20])
                        case _:
                            session.execute("INSERT INTO bag VALUES (%s), (%s)", [number, number])
                            session.execute("DELETE FROM bag WHERE v = %s AND random() < 0.1", [number])
                session.commit()


@pytest.fixture
def shop(
    make_database: MakeDatabase,
    real_kafka: Kafka,
    topic_prefix: str,
    replicator_process: StartReplicator,
    tmp_path: Any,
) -> Any:
    """A shop whose capture has begun, and ended."""
    old = make_database()
    old.execute(TABLES)
    made = Shop(old, make_database(), real_kafka, topic_prefix, replicator_process)
    made.write(tmp_path)
    made.finish()
    yield made
    for process in made.started:
        process.kill()


def test_killed_at_any_moment(shop: Shop) -> None:
    """SIGKILL while it captures, again and again: each change is in Kafka once, in order, in whole transactions."""
    print(f"REPLICATOR_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    choose = random.Random(SEED)
    moment = threading.Event()
    with Writers(shop.old, SEED):
        for number in range(KILLS):
            if number % 5 == 2:
                shop.old.execute("INSERT INTO bag SELECT generate_series(100, 20000)")
            process = shop.capture()
            process.wait_for_log("capturing", 60)
            moment.wait(choose.uniform(0, 1.5))
            process.kill()
    shop.finish()

    shop.assert_once_and_in_order()


def test_frozen_and_woken(shop: Shop) -> None:
    """Frozen while another one takes over, then woken: it produces nothing more, and says that it was superseded."""
    with Writers(shop.old, SEED) as _:
        for _ in range(max(2, KILLS // 5)):
            former = shop.capturing()
            former.freeze()
            successor = shop.capturing()
            wait_until(shop.captured, 30)
            former.thaw()
            former.wait_for_log("connector superseded", 60)
            former.terminate()
            assert former.wait() == 1, former.story()
            wait_until(shop.captured, 30)
            successor.terminate()
            assert successor.wait() == 0, successor.story()
    shop.finish()

    shop.assert_once_and_in_order()


def test_broker_goes_and_comes_back(
    make_database: MakeDatabase,
    make_kafka: MakeKafka,
    topic_prefix: str,
    replicator_process: StartReplicator,
    tmp_path: Any,
) -> None:
    """While the broker is away the capture tries again; when it is back, nothing is missing, and nothing is twice."""
    server = make_kafka()
    old = make_database()
    old.execute(TABLES)
    shop = Shop(old, make_database(), Kafka(server.bootstrap, mock=False), topic_prefix, replicator_process)
    shop.write(tmp_path)
    process = shop.capturing()
    with Writers(shop.old, SEED):
        wait_until(lambda: process.logged("status") or shop.captured(), 60)
        server.kill()
        wait_until(lambda: shop.old.execute("SELECT 1 FROM aside.history HAVING count(*) > 300"), 60)
        server.start()
    wait_until(shop.captured, 90)
    process.terminate()
    assert process.wait() == 0, process.story()
    shop.finish()

    shop.assert_once_and_in_order()
