"""Where this machine keeps its Javas."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Where Linux distributions, the usual images and macOS put them.
_FOLDERS = ("/usr/lib/jvm", "/usr/lib64/jvm", "/usr/java", "/opt/java", "/opt/jdk", "/Library/Java/JavaVirtualMachines")


@dataclass(frozen=True, slots=True)
class Java:
    """A Java installation."""

    home: Path
    major: int

    @property
    def program(self) -> Path:
        """The `java` to run."""
        return self.home / "bin" / "java"


def find_java(minimum: int) -> Java | None:
    """Return a Java of at least this major version, or None.

    JAVA_HOME comes first, then PATH, then the oldest that will do.
    """
    preferred, others = [], []
    for home in _preferred():
        preferred += _installation(home)
    for home in _installed():
        others += _installation(home)
    others.sort(key=lambda java: (java.major, java.home))
    return next((java for java in preferred + others if java.major >= minimum), None)


def _preferred() -> Iterator[Path]:
    if named := os.environ.get("JAVA_HOME"):
        yield Path(named)
    if found := shutil.which("java"):
        yield Path(found).resolve().parent.parent


def _installed() -> Iterator[Path]:
    for folder in map(Path, _FOLDERS):
        if folder.is_dir():
            for home in folder.iterdir():
                yield home
                yield home / "Contents" / "Home"


def _installation(home: Path) -> list[Java]:
    """Return what is in this folder: one Java, or none. Its `release` file says which, without starting it."""
    try:
        release = (home / "release").read_text(errors="replace")
    except OSError:
        return []
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    if found is None or not os.access(home / "bin" / "java", os.X_OK):
        return []
    return [Java(home, int(found[1]))]
