"""What deploy/ names exists: files, commands, options, ports, variables, metrics."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from replicator.cli import COMMANDS, cli
from replicator.config import Connector, parse_connector
from replicator.control import create_app
from replicator.telemetry import State, names
from tests.documents import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
UNIT = (DEPLOY / "replicator.service").read_text()
PORT = 8650


def loaded(name: str) -> list[Any]:
    """Every document of a YAML file."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


COMPOSE = loaded("docker-compose.yml")[0]
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


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.y*ml")), ids=lambda path: path.name)
def test_yaml_parses(path: Path) -> None:
    """Every YAML file, each of its documents a mapping."""
    assert all(isinstance(one, dict) for one in yaml.safe_load_all(path.read_text()))


def test_images_are_pinned() -> None:
    """No image is whatever is newest today."""
    images = [service["image"] for service in COMPOSE["services"].values() if "image" in service]
    images += [*re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE), CONTAINER["image"]]

    assert len(images) == 7
    assert [] == [image for image in images if not re.search(r":v?\d+\.\d+", image)]


def test_compose_mounts_what_is_there() -> None:
    """Every host path of a volume, of a build and of a comment exists."""
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).exists(), volume
    build = COMPOSE["services"]["replicator"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).exists()
    for path in re.findall(r"\bdeploy/[\w./-]+", (DEPLOY / "docker-compose.yml").read_text()):
        assert (ROOT / path).exists(), path


def test_every_service_has_a_healthcheck() -> None:
    """Compose starts each part once what it needs is healthy; replicator's check is the image's."""
    assert {"replicator"} == {name for name, one in COMPOSE["services"].items() if "healthcheck" not in one}
    assert "HEALTHCHECK" in DOCKERFILE
    assert "/livez" in ROUTES & set(re.findall(r"(?<=:8650)/\w+", DOCKERFILE))
    for service in COMPOSE["services"].values():
        assert service.get("depends_on", {}).keys() <= COMPOSE["services"].keys()


def test_the_composed_connector_is_the_example(tmp_path: Path) -> None:
    """It differs in its address alone, gets every variable that it names, and its port is published."""
    composed = COMPOSE["services"]["replicator"]
    text = (DEPLOY / "compose" / "crm.yaml").read_text()
    (tmp_path / "crm.py").touch()
    connector = parse_connector(text.encode(), tmp_path / "crm.yaml", composed["environment"])
    environment = {"OLD_DSN": "host=a", "UPGRADED_DSN": "host=b"}
    source = (ROOT / "connectors" / "crm.yaml").read_bytes()
    example = parse_connector(source, ROOT / "connectors" / "crm.yaml", environment)

    changed = {"http", "old", "upgraded", "transforms"}
    same = Connector.model_fields.keys() - changed
    assert {key: getattr(example, key) for key in same} == {key: getattr(connector, key) for key in same}
    assert composed["environment"].keys() == set(re.findall(r"\$\{(\w+)\}", text))
    assert [f"127.0.0.1:{connector.http.listen.port}:{connector.http.listen.port}"] == composed["ports"]
    check_command(composed["command"])
    for dsn, name in ((connector.old.dsn, "old"), (connector.upgraded.dsn, "upgraded")):
        service = COMPOSE["services"][name]["environment"]
        user = f"postgres:{service['POSTGRES_PASSWORD']}"
        assert f"postgresql://{user}@{name}/{service['POSTGRES_DB']}" == dsn.reveal()


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
