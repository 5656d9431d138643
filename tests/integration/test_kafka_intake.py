"""What is seen to before a table is copied that changes by Kafka."""

from pathlib import Path

import pytest

from replicator.config import KafkaStream, parse_connector
from replicator.daemon.kafka_intake import KafkaIntake
from replicator.daemon.parts import open_parts
from replicator.errors import ErrorKind, ReplicatorError
from tests.fix_connect import DEBEZIUM, ConnectServer
from tests.fix_kafka import Kafka
from tests.fix_postgres import MakeDatabase

SCHEMA = "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE orders (id int PRIMARY KEY)"


async def test_a_table_that_debezium_is_not_shown(
    kafka: Kafka, make_database: MakeDatabase, connect_server: ConnectServer, topic_prefix: str
) -> None:
    """A table that is added later must be in Debezium's publication before it is copied, whoever keeps that."""
    old, upgraded = make_database(), make_database()
    for one in (old, upgraded):
        one.execute(SCHEMA)
    old.execute("CREATE PUBLICATION dbz FOR TABLE users")
    connect_server.configs["crm"] = {"connector.class": DEBEZIUM, "publication.name": "dbz"}
    text = f"""
name: crm
old: {{dsn: "{old.dsn}"}}
upgraded: {{dsn: "{upgraded.dsn}"}}
stream: {{kind: kafka, bootstrap_servers: "{kafka.bootstrap}", format: debezium-json, topic_prefix: {topic_prefix},
  connect_url: "{connect_server.url}", connect_name: crm}}
tables: [{{old: "public.*"}}]
"""
    connector = parse_connector(text.encode(), Path("crm.yaml"), {})
    assert isinstance(connector.stream, KafkaStream)
    async with open_parts(connector) as parts:
        assert isinstance(parts.intake, KafkaIntake)
        mappings = await parts.mappings()
        await parts.target.take_over(1)
        await parts.intake.source(mappings)
        with pytest.raises(ReplicatorError, match="orders is not in publication") as caught:
            await parts.intake.ready(mappings, [], copied=["public.users"], copies=True)
        old.execute(str(caught.value.hint).partition("Add it: ")[2])
        assert not await parts.intake.ready(mappings, [], copied=["public.users"], copies=True)

    assert ErrorKind.CONFIG is caught.value.kind
