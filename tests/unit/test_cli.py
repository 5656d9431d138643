"""The command line without a database: help, exit codes, what `validate` prints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import click
import pytest
from click.testing import CliRunner, Result

from replicator.cli import COMMANDS, cli, main

GOOD = """\
name: crm
old: {dsn: "host=old.example dbname=crm user=app password=hunter2"}
upgraded: {dsn: "postgresql://app:hunter3@new.example/crm"}
tables: [{old: "public.*"}]
"""
TRANSFORM = """\
from replicator.rows import Row
from replicator.transforms import transform

@transform(old="public.accounts", upgraded="crm.accounts")
def account(row: Row) -> Row:
    return row
"""


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


class RunMain(Protocol):
    def __call__(self, *args: str) -> tuple[int, str, str]: ...


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunMain:
    """Run the entry point itself: exit code, stdout, stderr."""

    def run_it(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["replicator", *args])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run_it


def test_help_lists_every_command() -> None:
    """The overview names each command with what it is for."""
    result = run("--help")

    assert 0 == result.exit_code
    assert all(name in result.output for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded(name: str) -> None:
    """The overview lists no command that isn't there, and each says how it is used."""
    result = run(name, "--help")

    assert 0 == result.exit_code, result.output
    assert "Usage:" in result.output


def test_help_imports_nothing_heavy() -> None:
    """`replicator --help` answers without loading what only a command needs."""
    code = (
        "import sys; sys.argv = ['replicator', '--help']\n"
        "from replicator.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'psycopg', 'pydantic', 'aiohttp', 'rich', 'structlog', 'uvloop', 'yaml', 'asyncio'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.splitlines()[-1]


@pytest.mark.parametrize("args", [["nonsense"], ["run"], ["validate", "x.yaml", "--nonsense"]])
def test_wrong_usage_is_2(args: list[str]) -> None:
    """An unknown command or option, or a missing argument."""
    assert 2 == run(*args).exit_code


def test_validate_says_what_it_read(tmp_path: Path) -> None:
    """A right connector: both databases without their passwords, and the next command."""
    file = tmp_path / "crm.yaml"
    file.write_text(GOOD)
    result = run("validate", str(file))

    assert 0 == result.exit_code
    assert "old.example" in result.output
    assert "hunter" not in result.output
    assert f"Next: replicator plan {file}" in result.output


def test_validate_prints_every_problem_with_its_place(tmp_path: Path) -> None:
    """file:line:column of each, one a line, on stderr; exit code 78."""
    file = tmp_path / "crm.yaml"
    file.write_text(GOOD + "aply: {lanes: 2}\nbackfill: {workers: none}\n")
    result = run("validate", str(file))
    lines = result.stderr.splitlines()

    assert 78 == result.exit_code
    assert lines[0].startswith(f"{file}:5:1: ")
    assert "did you mean 'apply'?" in lines[0]
    assert lines[1].startswith(f"{file}:6:21: ")
    assert "" == result.stdout


def test_validate_loads_the_transforms(tmp_path: Path) -> None:
    """A mistake in their Python is found without a database, with file and line."""
    file = tmp_path / "crm.yaml"
    file.write_text(GOOD + "transforms: crm.py\n")
    (tmp_path / "crm.py").write_text(TRANSFORM + "\nboom = 1 / 0\n")
    result = run("validate", str(file))

    assert 78 == result.exit_code
    assert "crm.py:8: ZeroDivisionError" in result.stderr


def test_validate_names_what_has_no_way_back(tmp_path: Path) -> None:
    """Transforms without an inverse are listed long before a cutover asks for them."""
    file = tmp_path / "crm.yaml"
    file.write_text(GOOD + "transforms: crm.py\n")
    (tmp_path / "crm.py").write_text(TRANSFORM)
    facts = json.loads(run("validate", str(file), "--json").stdout)

    assert facts["valid"]
    assert ["public.accounts"] == facts["connectors"][0]["without_inverse"]


def test_validate_checks_a_folder_whole(tmp_path: Path) -> None:
    """Problems of all files in one answer, also as JSON."""
    (tmp_path / "a.yaml").write_text(GOOD.replace("name: crm", "nme: crm"))
    (tmp_path / "b.yaml").write_text("name: b\n")
    result = run("validate", str(tmp_path), "--json")
    facts = json.loads(result.stdout)

    assert 78 == result.exit_code
    assert {"a.yaml", "b.yaml"} == {Path(problem["file"]).name for problem in facts["problems"]}
    assert not facts["valid"]


def test_a_missing_file_is_a_problem_of_the_configuration(run_main: RunMain) -> None:
    """78, with the file's name, from every command that takes one."""
    for name in ("validate", "run", "status", "plan"):
        code, out, err = run_main(name, "/nowhere/crm.yaml")

        assert (78, "") == (code, out)
        assert "/nowhere/crm.yaml: can't read the file" in err


def test_lines_of_the_overview_are_short() -> None:
    """Each fits on one line of a terminal."""
    with click.Context(cli) as context:
        assert all(len(line) <= 100 for line in cli.get_help(context).splitlines())
