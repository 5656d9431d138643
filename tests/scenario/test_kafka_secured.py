"""Capture and feed on brokers that ask who one is: by settings and files alone, with no more rights than docs say."""

import shutil
import textwrap
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, not in __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from replicator.demo.kafka_parts.broker import KafkaServer
from tests.fix_kafka import MakeKafka, certificate
from tests.fix_pipeline import MakePipeline
from tests.fix_require import missing
from tests.integration.test_kafka_security import BROKER, PASSWORD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRAM = """
    settings:
      security.protocol: SASL_SSL
      sasl.mechanisms: SCRAM-SHA-512
      sasl.username: migrator
      sasl.password: "${{file:password}}"
      ssl.ca.location: "{authority}"
"""
OAUTH = """
    settings:
      security.protocol: SASL_PLAINTEXT
      sasl.mechanisms: OAUTHBEARER
      enable.sasl.oauthbearer.unsecure.jwt: "true"
      sasl.oauthbearer.config: "principal=migrator"
"""
PRODUCES = (AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.WRITE)


def section(settings: str) -> str:
    """As it is in the connector's file."""
    return textwrap.indent(textwrap.dedent(settings).strip(), "  ")


def grant(server: KafkaServer, prefix: str) -> None:
    """Make the user, with what docs/operations.md names: for the capture, and for the feed."""
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    wanted = UserScramCredentialUpsertion("migrator", credential, PASSWORD.encode())
    for made in admin.alter_user_scram_credentials([wanted]).values():
        made.result(20)
    rights = {
        (ResourceType.TOPIC, f"{prefix}.", ResourcePatternType.PREFIXED): (*PRODUCES, AclOperation.READ),
        (ResourceType.TOPIC, f"__debezium-heartbeat.{prefix}", ResourcePatternType.LITERAL): PRODUCES,
        (ResourceType.TOPIC, f"__replicator-capture.{prefix}", ResourcePatternType.LITERAL): (
            *PRODUCES,
            AclOperation.READ,
        ),
        (ResourceType.TRANSACTIONAL_ID, f"replicator-capture-{prefix}", ResourcePatternType.LITERAL): (
            AclOperation.DESCRIBE,
            AclOperation.WRITE,
        ),
        (ResourceType.GROUP, f"replicator_{prefix}", ResourcePatternType.LITERAL): (AclOperation.READ,),
    }
    bindings = [
        AclBinding(kind, name, pattern, "User:migrator", "*", operation, AclPermissionType.ALLOW)
        for (kind, name, pattern), operations in rights.items()
        for operation in operations
    ]
    for made in admin.create_acls(bindings).values():
        made.result(20)


def test_scram_over_tls_then_oauthbearer(
    pipeline: MakePipeline, make_kafka: MakeKafka, topic_prefix: str, tmp_path: Path
) -> None:
    """SCRAM over TLS with the password in a file, then OAUTHBEARER: rows arrive, and no secret is in a log."""
    if shutil.which("openssl") is None:
        missing("openssl", "there is no openssl to make a certificate")
    tls, authority = certificate("scram", tmp_path)
    server = make_kafka(listeners={"SCRAM": "SASL_SSL", "OAUTH": "SASL_PLAINTEXT"}, settings=BROKER | tls)
    grant(server, f"{topic_prefix}_0")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    scram = SCRAM.format(authority=authority)
    made = pipeline(
        "capture-json",
        "CREATE TABLE parts (id int PRIMARY KEY, n int)",
        stream=scram,
        bootstrap=server.address("SCRAM"),
    )
    shop = made.shop
    shop.old.execute("INSERT INTO parts VALUES (1, 1)")
    daemon = shop.streaming()
    shop.old.execute("INSERT INTO parts VALUES (2, 2); UPDATE parts SET n = 5 WHERE id = 1")
    shop.catch_up()
    shop.same_tables("parts")

    for process in (daemon, made.captures[-1]):
        process.terminate()
        assert 0 == process.wait(), process.story()
    text = shop.connector.read_text().replace(server.address("SCRAM"), server.address("OAUTH"))
    assert section(scram) in text
    shop.connector.write_text(text.replace(section(scram), section(OAUTH)))
    made.capture()
    shop.old.execute("INSERT INTO parts VALUES (3, 3); DELETE FROM parts WHERE id = 2")
    shop.streaming()
    shop.catch_up()
    shop.same_tables("parts")
    assert not [one for one in shop.started if PASSWORD in one.story() or PASSWORD in str(one.args)]
