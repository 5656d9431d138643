"""Suites of Great Expectations by the real library, where a Python has it (REPLICATOR_GX_PYTHON, or this one)."""

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from replicator.checks import SuiteResult, SuiteRule
from replicator.errors import ErrorKind, ReplicatorError
from replicator.expectations import PYTHON, suite_runner
from replicator.postgres.session import conninfo_for_reading
from replicator.tables import TableName
from tests.fix_postgres import Database
from tests.fix_require import missing

HERE = importlib.util.find_spec("great_expectations") is not None
TABLE = TableName("crm", "contacts")


def suite_file(folder: Path, *expectations: Mapping[str, object], **names: str) -> Path:
    file = folder / "suite.json"
    file.write_text(json.dumps({**(names or {"name": "contacts"}), "expectations": expectations}))
    return file


@pytest.fixture
def contacts(upgraded_database: Database) -> Database:
    """500 rows, five of them without an address."""
    upgraded_database.execute(
        """CREATE SCHEMA crm; CREATE TABLE crm.contacts (id int PRIMARY KEY, email text);
        INSERT INTO crm.contacts SELECT n, CASE WHEN n % 100 > 0 THEN n || '@example' END
            FROM generate_series(1, 500) n"""
    )
    return upgraded_database


async def test_what_lacks_is_said(contacts: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, without that Python, or with a file that is none, the error says what to do."""
    run = suite_runner(partial(conninfo_for_reading, contacts.dsn, "test"))
    rule = SuiteRule("contacts", suite_file(tmp_path), TABLE)
    if not HERE:
        monkeypatch.delenv(PYTHON, raising=False)
        with pytest.raises(ReplicatorError, match="pip install 'replicator") as caught:
            await run(rule)
        assert ErrorKind.CONFIG is caught.value.kind
    monkeypatch.setenv(PYTHON, str(tmp_path / "python"))
    with pytest.raises(ReplicatorError, match=PYTHON) as caught:
        await run(rule)
    assert ErrorKind.CONFIG is caught.value.kind
    monkeypatch.setenv(PYTHON, "/bin/true")
    with pytest.raises(ReplicatorError, match="no answer") as caught:
        await run(rule)
    rule.suite.write_text("no suite")
    with pytest.raises(ReplicatorError, match="read as JSON") as caught:
        await run(rule)
    assert ErrorKind.CONFIG is caught.value.kind


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_suite_is_run(contacts: Database, tmp_path: Path) -> None:
    """Expectations that aren't met are named with column and counts, none with a value; what can't be evaluated, and
    what the library doesn't know, is an error; a query's result is looked at like a table; nothing can be written.
    """
    if not HERE and not os.environ.get(PYTHON):
        missing("great_expectations", f"no great_expectations for {sys.executable}, and {PYTHON} names no other")
    run = suite_runner(partial(conninfo_for_reading, contacts.dsn, "test"))
    suite = suite_file(
        tmp_path,
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "email"}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}},
        {"type": "expect_column_max_to_be_between", "kwargs": {"column": "gone", "min_value": 1}},
    )
    found = await run(SuiteRule("contacts", suite, TABLE))
    assert (3, ("expect_column_values_to_not_be_null(email): 5 of 500 rows",)) == (found.expectations, found.failed)
    assert ["expect_column_max_to_be_between(gone)"] == [one.split(":")[0] for one in found.errors]

    earlier = {"expectation_type": "expect_column_values_to_not_be_null", "kwargs": {"column": "email"}}
    suite_file(tmp_path, earlier, expectation_suite_name="of version 0")
    query = "select * from crm.contacts where email is not null"
    assert SuiteResult(1) == await run(SuiteRule("contacts", suite, query=query))

    suite_file(tmp_path, {"type": "expect_miracles", "kwargs": {}})
    with pytest.raises(ReplicatorError, match="1 of its 1 expectations are not known"):
        await run(SuiteRule("contacts", suite, TABLE))
    suite_file(tmp_path, {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1}})
    writing = "with gone as (delete from crm.contacts returning *) select * from gone"
    with pytest.raises(ReplicatorError, match="can't be run"):
        await run(SuiteRule("contacts", suite, query=writing))
    assert [(500,)] == contacts.execute("SELECT count(*) FROM crm.contacts")
