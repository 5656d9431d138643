"""Runs one suite of Great Expectations 1.x against PostgreSQL: a request on stdin, an answer on stdout, both JSON.

A script that imports nothing of ours, so that a Python of its own can run it. The answer names expectations and
columns, and counts rows; no value of a row.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from types import TracebackType
from typing import Any, TextIO, cast

URL = "postgresql+psycopg:///?application_name=replicator:expectations"
"""Says only which driver; where to connect to is in the connection string that goes with it."""
INSTALL = "pip install 'replicator[great-expectations]'"


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    out = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):  # what the library prints is no answer
        answer = run(request)
    json.dump(answer, out)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request: `expectations`, `failed` and `errors`; or `error`, with `kind` and `hint`."""
    try:
        # By name: it is no dependency of ours, and that it lacks is an answer, too.
        great_expectations: Any = importlib.import_module("great_expectations")
        importlib.import_module("psycopg")
    except ImportError as error:
        return {
            "error": f"{error.name} isn't installed for {sys.executable}",
            "kind": "config",
            "hint": f"{INSTALL}; or name a Python that has it and psycopg in REPLICATOR_GX_PYTHON",
        }
    context = great_expectations.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = great_expectations.ExpectationSuite(**_suite(request["suite"]))
    given, known = len(request["suite"].get("expectations", ())), len(suite.expectations)
    if known < max(1, given):  # what it doesn't know, it logs and leaves out
        told = f"{given - known} of its {given} expectations are not known, or not valid" if given else "it is empty"
        return {"error": f"the suite can't be used: {told}", "kind": "config"}
    source = context.data_sources.add_sql(
        "upgraded", connection_string=URL, kwargs={"connect_args": {"conninfo": request["conninfo"]}}
    )
    if request["query"] is not None:
        asset = source.add_query_asset("checked", query=request["query"])
    else:
        asset = source.add_table_asset("checked", table_name=request["table"], schema_name=request["schema"])
    found = asset.add_batch_definition_whole_table("whole").get_batch().validate(suite)
    failed = [_described(one) for one in found.results if not one.success and not _raised(one)]
    errors = [f"{_described(one)}: {_raised(one)}" for one in found.results if _raised(one)]
    return {"expectations": len(found.results), "failed": failed, "errors": errors}


def _suite(document: dict[str, Any]) -> dict[str, Any]:
    """A suite as version 1 wants it; files of earlier versions say the same in other words."""
    expectations = [
        {
            "type": one.get("type") or one.get("expectation_type"),
            "kwargs": one.get("kwargs", {}),
            **({"meta": one["meta"]} if one.get("meta") else {}),
            **({"severity": one["severity"]} if one.get("severity") else {}),
        }
        for one in document.get("expectations", ())
    ]
    return {
        "name": document.get("name") or document.get("expectation_suite_name") or "suite",
        "expectations": expectations,
    }


def _described(one: Any) -> str:
    """`expect_column_values_to_not_be_null(email): 3 of 500 rows`."""
    config = one.expectation_config
    columns = [
        str(value)
        for name, value in config.kwargs.items()
        if name in ("column", "column_A", "column_B", "column_list", "column_set")
    ]
    unexpected, elements = one.result.get("unexpected_count"), one.result.get("element_count")
    rows = "" if unexpected is None or not elements else f": {unexpected:,} of {elements:,} rows"
    return f"{config.type}({', '.join(columns)}){rows}"


def _raised(one: Any) -> str:
    """Why an expectation could not be evaluated; empty where it could."""
    found = one.exception_info or {}
    infos = [found] if "raised_exception" in found else list(found.values())
    raised = next((info for info in infos if info.get("raised_exception")), None)
    return "" if raised is None else str(raised.get("exception_message", "")).strip().split("\n")[0][:200]


def answer_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Whatever the library raises, of the file, the connection or the query, is the answer; without its details."""
    del trace
    lines = str(error).strip().splitlines() or [""]
    json.dump(
        {"error": f"the suite can't be run: {kind.__name__}: {lines[0][:200]}", "kind": "config"},
        cast("TextIO", sys.__stdout__),
    )


if __name__ == "__main__":
    sys.excepthook = answer_error
    main()
