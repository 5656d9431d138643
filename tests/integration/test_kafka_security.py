"""Brokers that want to know who one is: settings only, and no secret in any message or log."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, not in __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from replicator.demo.kafka_parts.broker import KafkaServer
from replicator.errors import ErrorKind, ReplicatorError
from tests.fix_kafka import Kafka, MakeKafka, certificate
from tests.fix_kafka_source import KafkaWorld, MakeKafkaWorld
from tests.fix_require import missing

pytestmark = pytest.mark.slow
PASSWORD = "correct-horse-battery"
MODULES = "org.apache.kafka.common.security"
BROKER = {
    "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.scram.scram-sha-512.sasl.jaas.config": f"{MODULES}.scram.ScramLoginModule required;",
    "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
    "listener.name.oauth.oauthbearer.sasl.jaas.config": (
        f'{MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS;User:reader",
}
SCRAM = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanisms": "SCRAM-SHA-512",
    "sasl.username": "reader",
    "sasl.password": PASSWORD,
}


class Guarded(KafkaWorld):
    """A world whose broker has further listeners; whoever writes uses the plain one."""

    server: KafkaServer
    authority: Path


@pytest.fixture
async def guarded(make_kafka: MakeKafka, make_kafka_world: MakeKafkaWorld, tmp_path: Path) -> Guarded:
    if shutil.which("openssl") is None:
        missing("openssl", "there is no openssl to make a certificate")
    tls, authority = certificate("scram", tmp_path)
    server = await asyncio.to_thread(
        make_kafka, listeners={"SCRAM": "SASL_SSL", "OAUTH": "SASL_PLAINTEXT"}, settings=BROKER | tls
    )
    world = await make_kafka_world(Kafka(server.bootstrap, mock=False))
    world.__class__ = Guarded
    assert isinstance(world, Guarded)
    world.server, world.authority = server, authority
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    for user in ("reader", "stranger"):
        wanted = UserScramCredentialUpsertion(user, credential, PASSWORD.encode())
        (made,) = world.admin.alter_user_scram_credentials([wanted]).values()
        made.result(20)
    return world


def options(world: Guarded, **settings: str) -> dict[str, Any]:
    """A reader's, by SCRAM over TLS."""
    given = {**SCRAM, "ssl.ca.location": str(world.authority), **settings}
    return {"bootstrap_servers": world.server.address("SCRAM"), "settings": given}


async def test_scram_over_tls(guarded: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, password and authority are settings; the library's own messages, all of them, hold no password."""
    guarded.make_topic()
    guarded.write(1)
    reader = await guarded.started(**options(guarded, debug="all"))

    assert [1] == await reader.apply(1)

    await reader.source.close()
    out = "".join(capsys.readouterr())
    assert "librdkafka" in out
    assert PASSWORD not in out


@pytest.mark.parametrize(
    "wrong",
    [{"sasl.password": "guessed-by-somebody"}, {"sasl.mechanisms": "PLAIN"}],
    ids=["password", "mechanism"],
)
async def test_who_is_refused_hears_it_at_once(guarded: Guarded, wrong: dict[str, str]) -> None:
    """It is no broken network, which would be tried for ever."""
    with pytest.raises(ReplicatorError) as caught:
        await guarded.started(**options(guarded, **wrong))

    assert ErrorKind.PERMISSION is caught.value.kind
    assert "sasl" in str(caught.value).lower()
    assert "guessed-by-somebody" not in str(caught.value)


async def test_a_right_that_lacks_is_named(guarded: Guarded) -> None:
    """On the topic, and then on the group."""
    guarded.make_topic()
    guarded.write(1)
    given = options(guarded, **{"sasl.username": "stranger"})
    topic = ResourceType.TOPIC, guarded.topic()
    group = ResourceType.GROUP, guarded.prefix
    for missing_right, (kind, name), grants in (
        ("READ and DESCRIBE on the topics", topic, (AclOperation.DESCRIBE, AclOperation.READ)),
        ("READ on the consumer group", group, (AclOperation.READ,)),
    ):
        reader = guarded.reader(**given)
        with pytest.raises(ReplicatorError) as caught:
            await start_and_take(reader)
        assert ErrorKind.PERMISSION is caught.value.kind
        assert missing_right in str(caught.value)
        await reader.close()
        for grant in grants:
            allow = AclBinding(
                kind, name, ResourcePatternType.LITERAL, "User:stranger", "*", grant, AclPermissionType.ALLOW
            )
            (made,) = guarded.admin.create_acls([allow]).values()
            made.result(20)

    reader = await guarded.started(**given)
    assert [1] == await reader.apply(1)


async def start_and_take(reader: Any) -> None:
    await reader.start()
    await reader.take()


async def test_oauthbearer(guarded: Guarded) -> None:
    """By settings, too: here with a token that the library makes itself."""
    guarded.make_topic()
    guarded.write(1)
    token = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanisms": "OAUTHBEARER",
        "enable.sasl.oauthbearer.unsecure.jwt": "true",
        "sasl.oauthbearer.config": "principal=reader",
    }
    reader = await guarded.started(bootstrap_servers=guarded.server.address("OAUTH"), settings=token)

    assert [1] == await reader.apply(1)
