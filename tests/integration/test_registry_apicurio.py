"""The client of schema registries, and our Avro, against Apicurio."""

import json

import aiohttp
import pytest

from replicator.codecs.avro import DebeziumAvroDecoder
from replicator.codecs.avro.encoder import DebeziumAvroEncoder
from replicator.codecs.debezium.modes import CAPTURED
from replicator.config.streams import SchemaRegistry as Settings
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Op
from replicator.kafka import registry as subject
from replicator.kafka.registry import SchemaRegistry
from replicator.records import Record, RegistrySchema, RowChange
from replicator.tables import Catalog
from tests.debezium_records import described
from tests.debezium_tables import table

ROW = json.dumps({"type": "record", "name": "Row", "namespace": "a", "fields": [{"name": "id", "type": "long"}]})


async def test_apicurio_by_confluents_api(kafka_registry: str, topic_prefix: str) -> None:
    """What is registered under a subject is found by the id that came back, by either path of the URL."""
    one = SchemaRegistry(Settings(url=kafka_registry))
    row = ROW.replace('"a"', f'"{topic_prefix}"')
    number = await one.register(f"{topic_prefix}-value", row)
    two = SchemaRegistry(Settings(url=kafka_registry.replace("ccompat/v7", "registry/v3")))
    for client in (one, two):
        assert json.loads(row) == json.loads(await client.schema(RegistrySchema("id", number)))
    assert number == await two.register(f"{topic_prefix}-value", row)
    await one.close()
    await two.close()


async def test_apicurio_by_its_own_ids(kafka_registry: str, topic_prefix: str) -> None:
    """Content ids and global ids are found by the registry's own API, by either of its URLs; references too."""
    own = kafka_registry.replace("ccompat/v7", "registry/v3")
    row = ROW.replace('"a"', f'"{topic_prefix}"')
    top = {"type": "record", "name": "Top", "fields": [{"name": "row", "type": f"{topic_prefix}.Row"}]}
    reference = {"groupId": topic_prefix, "artifactId": "row", "version": "1", "name": f"{topic_prefix}.Row"}
    async with aiohttp.ClientSession() as session:
        made = []
        for name, schema, references in (("row", row, []), ("top", json.dumps(top), [reference])):
            content = {"content": schema, "contentType": "application/json", "references": references}
            body = {"artifactId": name, "artifactType": "AVRO", "firstVersion": {"version": "1", "content": content}}
            async with session.post(f"{own}/groups/{topic_prefix}/artifacts", json=body) as answer:
                made.append((await answer.json())["version"])
    for url in (own, kafka_registry):
        client = SchemaRegistry(Settings(url=url))
        for kind, name in (("global", "globalId"), ("content", "contentId")):
            assert json.loads(row) == json.loads(await client.schema(RegistrySchema(kind, made[0][name])))
            whole = json.loads(await client.schema(RegistrySchema(kind, made[1][name])))
            assert json.loads(row) == whole["fields"][0]["type"]
        await client.close()


async def test_apicurio_refuses(kafka_registry: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown id of either kind, and a schema that its subject can't bear, are told as what they are."""
    monkeypatch.setattr(subject, "UNKNOWN_SECONDS", 0.2)
    client = SchemaRegistry(Settings(url=kafka_registry))
    for kind in ("id", "global", "content"):
        with pytest.raises(ReplicatorError, match="doesn't know") as caught:
            await client.schema(RegistrySchema(kind, 2**30))
        assert ErrorKind.DECODE is caught.value.kind
    name = f"{topic_prefix}-value"
    await client.register(name, ROW)
    async with aiohttp.ClientSession() as session:
        await session.put(f"{kafka_registry}/config/{name}", json={"compatibility": "BACKWARD"})
    with pytest.raises(ReplicatorError, match="incompatible") as caught:
        await client.register(name, ROW.replace('"long"', '"string"'))
    assert ErrorKind.SCHEMA is caught.value.kind
    await client.close()


async def test_what_we_write_is_read_by_its_schema(kafka_registry: str, topic_prefix: str) -> None:
    """The schemas that the encoder asks for can be registered, and what it writes with their ids is read by them."""
    rows = table("public.rows", "id integer not null", "a-b text", "tags text[]", "p point")
    known = Catalog(180000, {rows.name: rows})
    encoder = DebeziumAvroEncoder(topic_prefix, "shop")
    decoder = DebeziumAvroDecoder(known, {}, CAPTURED, topic_prefix)
    client = SchemaRegistry(Settings(url=kafka_registry))
    told = described(rows)
    for schema in encoder.shape(f"{topic_prefix}.public.rows", told):
        encoder.learn(schema, await client.register(schema.subject, schema.text))
    row = (b"1", b"x", b"{a,NULL}", b"(1,2.5)")
    change = RowChange(Op.INSERT, told.relation, None, row, 1, 2, 3.0)
    record = Record(f"{topic_prefix}.public.rows", 0, 0, None, None, encoder.value(change, 4.0))
    for needed in decoder.needs(record):
        decoder.learn(needed, await client.schema(needed))
    read = decoder.decode(record)
    assert isinstance(read, RowChange)
    assert row == read.after
    await client.close()
