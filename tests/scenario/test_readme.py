"""The README's walk through a migration, as a newcomer takes it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.connector_files import free_address
from tests.documents import ROOT, files, steps
from tests.fix_postgres import Database
from tests.fix_replicator import StartReplicator
from tests.fix_require import missing

README = ROOT / "README.md"


def shape(output: str) -> list[str]:
    """What a command printed, without what differs from run to run: numbers with their units, positions, unknowns."""
    text = re.sub(r"rows unknown|about [\d,]+ rows", "ROWS", output)
    text = re.sub(r"dbname=\w+", "dbname=#", text)
    text = re.sub(r"\b[0-9A-F]+/[0-9A-F]+\b", "LSN", text)
    text = re.sub(r"\bunknown\b|\d[\d,.]*(?: (?:ms|s|min|B|KiB|MiB)\b)?", "#", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_readme_tells_the_truth(
    old_database: Database, upgraded_database: Database, tmp_path: Path, replicator_process: StartReplicator
) -> None:
    """Every command of the README's walk prints what the README says, on databases that are made as it says."""
    if shutil.which("psql") is None:
        missing("psql", "there is no psql")
    for name, content in files(README):
        (tmp_path / name).write_text(content)
    old_database.execute((tmp_path / "old.sql").read_text())
    upgraded_database.execute((tmp_path / "upgraded.sql").read_text())
    with (tmp_path / "clinic.yaml").open("a") as connector:
        connector.write(f'http: {{listen: "{free_address()}"}}\n')
    environment = {
        "OLD_DSN": old_database.dsn,
        "UPGRADED_DSN": upgraded_database.dsn,
        "PATH": f"{Path(sys.executable).parent}:{upgraded_database.server.bindir}:/usr/bin:/bin",
    }

    for command, output in steps(README):
        if command.startswith("export "):
            continue
        if command.endswith("&"):
            _, *args = command.removesuffix("&").split()
            replicator_process(args, env=environment, cwd=tmp_path)
            continue
        done = subprocess.run(
            ["sh", "-c", command],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (0, "") == (done.returncode, done.stderr), f"{command}\n{done.stdout}\n{done.stderr}"
        assert shape(output) == shape(done.stdout), command
