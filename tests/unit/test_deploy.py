"""What deploy/ names exists: files, commands, options, ports, variables, metrics."""

import configparser
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from jsonschema import Draft7Validator
from yarl import URL

from replicator.assess import Level
from replicator.cli import COMMANDS, cli
from replicator.config import Connector, KafkaStream, parse_connector
from replicator.control import create_app
from replicator.demo.kafka_parts import pins
from replicator.tables import Column
from replicator.telemetry import State, names
from tests.assessing import CONNECT as CONNECT_REST
from tests.assessing import kafka_stream, log_plan, table, text
from tests.documents import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
CONNECT = (DEPLOY / "compose" / "connect.Dockerfile").read_text()
UNIT = (DEPLOY / "replicator.service").read_text()
PORT = 8650


def loaded(name: str) -> list[Any]:
    """Every document of a YAML file."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
KUBERNETES = {document["kind"]: document for document in loaded("kubernetes.yaml")}
CONTAINER = KUBERNETES["Deployment"]["spec"]["template"]["spec"]["containers"][0]
ROUTES = {resource.canonical for resource in create_app([], clock=time.time, version="0").router.resources()}


def check_command(words: list[str]) -> None:
    """`words`, without the program's name, are a command of ours with options that it has."""
    assert words[0] in COMMANDS
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize(
    "path", [ROOT / "docker-compose.yml", *sorted(DEPLOY.rglob("*.y*ml"))], ids=lambda path: path.name
)
def test_yaml_parses(path: Path) -> None:
    """Every YAML file, each of its documents a mapping."""
    assert all(isinstance(one, dict) for one in yaml.safe_load_all(path.read_text()))


def test_images_are_pinned() -> None:
    """No image is whatever is newest today."""
    images = [service["image"] for service in COMPOSE["services"].values() if "image" in service]
    images += [*re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE), CONTAINER["image"]]

    images += re.findall(r"^FROM (\S+)", CONNECT, re.MULTILINE)
    assert len(images) == 13
    assert [] == [image for image in images if not re.search(r":v?\d+\.\d+", image)]


def test_compose_is_what_compose_reads() -> None:
    """By the schema of the Compose specification (compose-spec/compose-spec, Apache License 2.0)."""
    schema = json.loads((ROOT / "tests" / "golden" / "compose-spec.json").read_text())
    assert [] == [error.message for error in Draft7Validator(schema).iter_errors(COMPOSE)]


def settings_of(name: str) -> dict[str, str]:
    """Variables of one of the files for --env-file."""
    lines = (DEPLOY / "compose" / f"{name}.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


WAYS = {name: settings_of(name) for name in ("slot", "capture", "debezium")}


def test_compose_mounts_what_is_there() -> None:
    """Every host path of a volume, of a build and of a comment exists, whichever way is chosen."""
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            for way in WAYS.values():
                host = volume.replace("${CONNECTOR:-crm}", way["CONNECTOR"])
                assert (ROOT / host.split(":")[0]).exists(), volume
        if "build" in service:
            assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    comments = (ROOT / "docker-compose.yml").read_text()
    paths = re.findall(r"\bdeploy/[\w./-]+", comments)
    assert {f"deploy/compose/{way}.env" for way in WAYS} <= set(paths)
    for path in paths:
        assert (ROOT / path).exists(), path


def test_every_service_has_a_healthcheck() -> None:
    """Compose starts each part once what it needs is healthy; replicator's check is the image's, a setup just ends."""
    without = {name for name, one in COMPOSE["services"].items() if "healthcheck" not in one}
    assert {"replicator", "connect-setup"} == without
    assert "HEALTHCHECK" in DOCKERFILE
    assert "/livez" in ROUTES & set(re.findall(r"(?<=:8650)/\w+", DOCKERFILE))
    for service in COMPOSE["services"].values():
        assert service.get("depends_on", {}).keys() <= COMPOSE["services"].keys()


@pytest.mark.parametrize("way", WAYS)
def test_a_way_starts_what_it_needs(way: str) -> None:
    """A service of every way depends on one of a profile only where it may be left out."""
    chosen = WAYS[way].get("COMPOSE_PROFILES")
    started = {name for name, one in COMPOSE["services"].items() if chosen in one.get("profiles", [chosen])}
    assert {"old", "upgraded", "pgbouncer", "replicator", "prometheus", "grafana"} <= started
    expected = {"slot": set(), "capture": {"kafka", "registry", "capture"}}
    debezium = {"kafka", "registry", "connect", "connect-setup"}
    profiled = {name for name in started if "profiles" in COMPOSE["services"][name]}
    assert expected.get(way, debezium) == profiled
    for name in started:
        for needed, how in COMPOSE["services"][name].get("depends_on", {}).items():
            assert needed in started or how.get("required") is False, (name, needed)


@pytest.mark.parametrize("way", WAYS)
def test_the_composed_connector_is_the_example(tmp_path: Path, way: str) -> None:
    """It differs in its address alone, gets every variable that it names, and its port is published."""
    composed = COMPOSE["services"]["replicator"]
    name = f"{WAYS[way]['CONNECTOR']}.yaml"
    text = (DEPLOY / "compose" / name).read_text()
    (tmp_path / "crm.py").touch()
    connector = parse_connector(text.encode(), tmp_path / "crm.yaml", composed["environment"])
    environment = {"OLD_DSN": "host=a", "UPGRADED_DSN": "host=b"}
    source = (ROOT / "connectors" / name).read_bytes()
    example = parse_connector(source, ROOT / "connectors" / name, environment)

    changed = {"http", "old", "upgraded", "transforms"}
    same = Connector.model_fields.keys() - changed
    assert {key: getattr(example, key) for key in same} == {key: getattr(connector, key) for key in same}
    assert composed["environment"].keys() == set(re.findall(r"\$\{(\w+)\}", text))
    assert [f"127.0.0.1:{connector.http.listen.port}:{connector.http.listen.port}"] == composed["ports"]
    check_command(composed["command"])
    for dsn, side in ((connector.old.dsn, "old"), (connector.upgraded.dsn, "upgraded")):
        service = COMPOSE["services"][side]["environment"]
        user = f"postgres:{service['POSTGRES_PASSWORD']}"
        assert f"postgresql://{user}@{side}/{service['POSTGRES_DB']}" == dsn.reveal()


def stream_of(way: str) -> KafkaStream:
    """The stream of a composed connector."""
    path = DEPLOY / "compose" / f"{WAYS[way]['CONNECTOR']}.yaml"
    text = path.read_text().replace("transforms: crm.py", "transforms: ../../connectors/crm.py")
    stream = parse_connector(text.encode(), path, COMPOSE["services"]["replicator"]["environment"]).stream
    assert isinstance(stream, KafkaStream)
    return stream


@pytest.mark.parametrize("way", ["capture", "debezium"])
def test_the_stream_is_where_compose_has_it(way: str) -> None:
    """Brokers, registry and Connect by their services' names, and the ports that they listen on."""
    stream, services = stream_of(way), COMPOSE["services"]
    listeners = services["kafka"]["environment"]
    assert f"PLAINTEXT://{stream.bootstrap_servers}" == listeners["KAFKA_ADVERTISED_LISTENERS"]
    assert stream.bootstrap_servers.partition(":")[2] in listeners["KAFKA_LISTENERS"]
    assert stream.schema_registry is not None
    registry = URL(stream.schema_registry.url)
    assert "registry" == registry.host
    check = services["registry"]["healthcheck"]["test"][-1]
    assert f"/127.0.0.1/{registry.port}" in check
    assert f"GET {registry.path}/" in check
    if stream.capture is not None:
        words = services["capture"]["command"]
        check_command(words)
        port = words[-1].partition(":")[2]
        assert [f"127.0.0.1:{port}:{port}"] == services["capture"]["ports"]
        assert f":{port}/readyz" in services["capture"]["healthcheck"]["test"][-1]
        assert "/readyz" in ROUTES
        assert port in (DEPLOY / "compose" / "prometheus.yml").read_text()
        return
    assert stream.connect_url is not None
    connect = URL(stream.connect_url)
    assert ("connect", f"/127.0.0.1/{connect.port}") == (
        connect.host,
        re.findall(r"/127\.0\.0\.1/\d+", services["connect"]["healthcheck"]["test"][-1])[0],
    )
    assert f"{stream.connect_url}/connectors/{stream.connect_name}/config" in services["connect-setup"]["command"][-1]
    assert stream.bootstrap_servers == services["connect"]["environment"]["BOOTSTRAP_SERVERS"]


def test_composed_debezium_has_nothing_to_mend() -> None:
    """Its configuration is one of which a plan finds nothing, for the database and the registry that are composed."""
    config = json.loads((DEPLOY / "compose" / "debezium.json").read_text())
    stream, old = stream_of("debezium"), COMPOSE["services"]["old"]["environment"]
    assert stream.schema_registry is not None
    for side in ("key", "value"):
        assert stream.schema_registry.url == config[f"{side}.converter.schema.registry.url"]
    assert ("old", "postgres", old["POSTGRES_PASSWORD"], old["POSTGRES_DB"]) == tuple(
        config[f"database.{key}"] for key in ("hostname", "user", "password", "dbname")
    )
    assert config["topic.prefix"] == stream.topic_prefix
    avro = kafka_stream(f"{CONNECT_REST}, schema_registry: {{url: http://registry}}", kind="debezium-avro")
    users = table("public.users", text("name", has_default=True), Column("paid", 1700, "numeric", "numeric"))
    made = log_plan(users, config={**config, "database.dbname": "app"}, yaml=avro)
    assert {Level.NOTE} == {finding.level for finding in made.findings}


def test_versions_are_those_that_were_run_together() -> None:
    """The composed Kafka, Debezium and registry are the ones that the tests run."""
    versions = {artifact.name: artifact.version for artifact in [*pins.CLASSES, *pins.ARCHIVES.values()]}
    services = COMPOSE["services"]
    assert services["kafka"]["image"].endswith(f":{versions['kafka_2.13']}")
    assert services["registry"]["image"].endswith(f":{versions['apicurio-registry-app']}")
    assert f"debezium/connect:{versions['debezium-connector-postgres']}" in CONNECT


def test_the_pooler_leads_to_the_old_database() -> None:
    """The application's name for its database, the port that is published, a user who may pause."""
    pooler = configparser.ConfigParser(inline_comment_prefixes=None, comment_prefixes=(";",))
    pooler.read(DEPLOY / "compose" / "pgbouncer.ini")
    service, old = COMPOSE["services"]["pgbouncer"], COMPOSE["services"]["old"]["environment"]
    assert f"host=old port=5432 dbname={old['POSTGRES_DB']}" == pooler["databases"][old["POSTGRES_DB"]]
    port = pooler["pgbouncer"]["listen_port"]
    assert [f"127.0.0.1:{port}:{port}"] == service["ports"]
    assert port == service["healthcheck"]["test"][-1]
    inside = {volume.split(":")[1] for volume in service["volumes"]}
    assert {"/etc/pgbouncer/pgbouncer.ini", pooler["pgbouncer"]["auth_file"]} == inside
    user, password = re.findall(r'"([^"]*)"', (DEPLOY / "compose" / "pgbouncer-users.txt").read_text())
    assert (user, password) == (pooler["pgbouncer"]["admin_users"], old["POSTGRES_PASSWORD"])


def test_prometheus_and_grafana_find_what_they_read() -> None:
    """Rules, data source and dashboard are mounted where the settings look for them; the target is our port."""
    prometheus, grafana = COMPOSE["services"]["prometheus"], COMPOSE["services"]["grafana"]
    settings = loaded("compose/prometheus.yml")[0]
    inside = {volume.split(":")[1] for service in (prometheus, grafana) for volume in service["volumes"]}
    folder = loaded("compose/grafana-dashboards.yaml")[0]["providers"][0]["options"]["path"]

    assert set(settings["rule_files"]) <= inside
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in inside
    assert any(path.startswith(folder) for path in inside)
    assert [f"replicator:{PORT}"] == settings["scrape_configs"][0]["static_configs"][0]["targets"]
    assert set(settings["scrape_configs"][1]["dns_sd_configs"][0]["names"]) <= COMPOSE["services"].keys()


def test_the_image_is_built_from_what_is_there() -> None:
    """COPY names files of the project that the build's context lets through; the command is ours."""
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in allowed, source
    assert ["replicator"] == json.loads(re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)[0])
    check_command(json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[0]))
    assert [str(PORT)] == re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)


def test_the_unit_runs_a_command_of_ours() -> None:
    """ExecStart is a command with its options; it notifies; credentials are where its comment reads them."""
    program, *words = re.findall(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)[0].split()
    assert program.endswith("/replicator")
    check_command(words)
    assert "\nType=notify\n" in UNIT
    assert "\nRestartPreventExitStatus=78\n" in UNIT
    credentials = re.findall(r"^LoadCredential=(\w+):", UNIT, re.MULTILINE)
    assert credentials == re.findall(r"\$\{file:/run/credentials/replicator\.service/(\w+)\}", UNIT)


def test_kubernetes_names_what_is_there(tmp_path: Path) -> None:
    """One replica, replaced; probes are our routes; the connector is right, and its files are in the secret."""
    deployment, service = KUBERNETES["Deployment"]["spec"], KUBERNETES["Service"]["spec"]
    pod = deployment["template"]["spec"]
    assert (1, "Recreate") == (deployment["replicas"], deployment["strategy"]["type"])
    probes = [CONTAINER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert {"/livez", "/readyz"} == {probe["path"] for probe in probes} <= ROUTES
    assert {"http"} == {probe["port"] for probe in probes}
    check_command(CONTAINER["args"])
    assert {"name": "http", "containerPort": PORT} == CONTAINER["ports"][0]
    assert PORT == service["ports"][0]["port"]
    assert deployment["selector"]["matchLabels"] == service["selector"]

    (text,) = KUBERNETES["ConfigMap"]["data"].values()
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert {volume["name"] for volume in pod["volumes"]} == mounts.keys()
    secrets = re.findall(r"\$\{file:([\w./-]+)/([\w-]+)\}", text)
    assert {mounts["secrets"]} == {folder for folder, _ in secrets}
    told = re.findall(r"--from-file=([\w-]+)", (DEPLOY / "kubernetes.yaml").read_text())
    assert sorted(told) == sorted(name for _, name in secrets)
    for _, name in secrets:
        (tmp_path / name).write_text("host=a")
    connector = parse_connector(text.replace(mounts["secrets"], str(tmp_path)).encode(), tmp_path / "a.yaml", {})
    assert PORT == connector.http.listen.port


def samples() -> set[str]:
    """Every name of ours that a scrape shows."""
    suffixes = {
        names.MetricKind.COUNTER: ("_total",),
        names.MetricKind.GAUGE: ("",),
        names.MetricKind.HISTOGRAM: ("_bucket", "_sum", "_count"),
    }
    return {metric.name + suffix for metric in names.ALL for suffix in suffixes[metric.kind]}


def expressions() -> Iterator[str]:
    """Every query of the alerts and of the dashboard."""
    for group in loaded("prometheus-rules.yaml")[0]["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (one["definition"] for one in board["templating"]["list"] if one["type"] == "query")


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_queries_name_metrics_that_there_are(expression: str) -> None:
    """Names, states and parentheses of every query of alerts and dashboard."""
    used = set(re.findall(r"\breplicator_\w+", expression))
    assert used <= samples()
    assert used or re.search(r'job="replicator"', expression)
    for states in re.findall(r'state=~?"([\w|]+)"', expression):
        assert set(states.split("|")) <= {str(state) for state in State}
    assert expression.count("(") == expression.count(")")


def test_what_must_wake_somebody_has_an_alert() -> None:
    """A failed connector, lag, lag that can't be known, WAL, dead letters, and a daemon that is down."""
    alerts = {rule["alert"]: rule["expr"] for rule in loaded("prometheus-rules.yaml")[0]["groups"][0]["rules"]}
    watched = " ".join(alerts.values())
    for metric in (names.READY, names.FRESHNESS, names.RETAINED_WAL, names.DEAD_LETTERS, names.STALE):
        assert metric.name in watched
    assert "absent(" in watched
