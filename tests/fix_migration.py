"""A migration as its operator has it: two real databases, a connector file, and the command."""

import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.fix_postgres import Database, MakeDatabase
from tests.fix_replicator import ReplicatorProcess, StartReplicator
from tests.polling import wait_until

Row = tuple[Any, ...]


@dataclass
class Migration:
    """One connector with its databases. `old` and `upgraded` are what tests write and read."""

    old: Database
    upgraded: Database
    connector: Path
    environment: Mapping[str, str]
    _command: StartReplicator
    started: list[ReplicatorProcess] = field(default_factory=list)

    def command(self, *args: str) -> ReplicatorProcess:
        """Start `replicator ARGS`; the connector's file is put in where `args` says FILE."""
        words = [str(self.connector) if word == "FILE" else word for word in args]
        process = self._command(words, env=self.environment)
        self.started.append(process)
        return process

    def start(self) -> ReplicatorProcess:
        """Start the daemon."""
        return self.command("run", "FILE")

    def streaming(self) -> ReplicatorProcess:
        """Start the daemon, and return once it is streaming."""
        process = self.start()
        with contextlib.suppress(AssertionError):  # then the next line tells everybody's story
            wait_until(
                lambda: process.logged("connector failed") or not process.running or process.logged("streaming"), 100
            )
        assert process.logged("streaming"), "\n".join(one.story() for one in self.started)
        process.wait_for_log("streaming", 1)
        return process

    def run_until_caught_up(self, timeout: float = 90) -> ReplicatorProcess:
        """Run the daemon until everything committed so far is applied; it must end with 0."""
        process = self.command("run", "FILE", "--until", "caught-up")
        code = process.wait(timeout)
        assert code == 0, process.story()
        return process

    def catch_up(self, timeout: int = 60) -> None:
        """Return once the running daemon has applied everything committed so far."""
        process = self.command("wait", "FILE", "--for", "caught-up", "--timeout", f"{timeout}s")
        wait_until(lambda: not process.running or self.failures(), timeout + 30)
        assert process.process.poll() == 0, "\n".join(one.story() for one in self.started)

    def failures(self) -> list[dict[str, Any]]:
        """What made a running daemon give up, as logged so far."""
        running = [one for one in self.started if one.running]
        return [line for one in running for line in one.logged("connector failed")]

    def change(self, script: str) -> None:
        """Run SQL on the old database: each paragraph by itself (in one transaction, if it doesn't say otherwise)."""
        for paragraph in textwrap.dedent(script).strip().split("\n\n"):
            self.old.execute(paragraph)

    def same(self, old: str, upgraded: str | None = None) -> None:
        """Assert that two queries give the same rows, whatever their order; the same query by default."""
        there, here = self._rows(self.old, old), self._rows(self.upgraded, upgraded or old)
        assert there == here, _difference(there, here)

    def same_tables(self, *names: str) -> None:
        """Assert that these tables hold the same rows on both sides, as text."""
        for name in names:
            self.same(f"SELECT t::text FROM {name} AS t")

    @staticmethod
    def _rows(database: Database, query: str) -> list[Row]:
        return sorted(database.execute(query), key=repr)


def _difference(there: list[Row], here: list[Row]) -> str:
    missing = [row for row in there if row not in here][:5]
    extra = [row for row in here if row not in there][:5]
    return f"{len(there)} rows on the old side, {len(here)} on the upgraded one; missing {missing}, extra {extra}"


class Migrate(Protocol):
    def __call__(
        self,
        schema: str = "",
        *,
        old_schema: str = "",
        upgraded_schema: str = "",
        tables: str = '- {old: "public.*"}',
        transforms: str | None = None,
        options: str = "",
        old: Database | None = None,
        upgraded: Database | None = None,
        old_dsn: str | None = None,
        upgraded_dsn: str | None = None,
        name: str = "shop",
    ) -> Migration: ...


@pytest.fixture
def migrate(make_database: MakeDatabase, replicator_process: StartReplicator, tmp_path: Path) -> Iterator[Migrate]:
    """Make a migration: `schema` goes to both sides, `tables` and `options` are YAML, `transforms` is Python.

    `old_dsn` and `upgraded_dsn` are what the connector is told, when that isn't the database itself (a proxy, a role).
    """
    made: list[Migration] = []

    def make(
        schema: str = "",
        *,
        old_schema: str = "",
        upgraded_schema: str = "",
        tables: str = '- {old: "public.*"}',
        transforms: str | None = None,
        options: str = "",
        old: Database | None = None,
        upgraded: Database | None = None,
        old_dsn: str | None = None,
        upgraded_dsn: str | None = None,
        name: str = "shop",
    ) -> Migration:
        old, upgraded = old or make_database(), upgraded or make_database()
        for database, own in ((old, old_schema), (upgraded, upgraded_schema)):
            for sql in (schema, own):
                if sql:
                    database.execute(textwrap.dedent(sql))
        lines = [
            f"name: {name}",
            'old: {dsn: "${OLD_DSN}"}',
            'upgraded: {dsn: "${UPGRADED_DSN}"}',
            "tables:",
            textwrap.indent(textwrap.dedent(tables).strip(), "  "),
            'http: {listen: "127.0.0.1:0"}',
            textwrap.dedent(options).strip(),
        ]
        if transforms is not None:
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(transforms))
            lines.append(f"transforms: {name}.py")
        connector = tmp_path / f"{name}.yaml"
        connector.write_text("\n".join(lines) + "\n")
        environment = {"OLD_DSN": old_dsn or old.dsn, "UPGRADED_DSN": upgraded_dsn or upgraded.dsn}
        migration = Migration(old, upgraded, connector, environment, replicator_process)
        made.append(migration)
        return migration

    yield make
    for migration in made:  # before the databases are dropped
        for process in migration.started:
            process.kill()
