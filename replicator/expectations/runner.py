"""Runs suites by another Python process: a request on its stdin, an answer on its stdout, both JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from replicator.checks import SuiteResult
from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.checks import RunSuite, SuiteRule

PYTHON: Final = "REPLICATOR_GX_PYTHON"
"""Environment variable: the Python that has great_expectations; ours, where it isn't set."""
_SCRIPT: Final = Path(__file__).with_name("suite.py")
_NO_ANALYTICS: Final = {"GX_ANALYTICS_ENABLED": "false"}  # it reports its use to its makers otherwise


def suite_runner(conninfo: Callable[[float], str]) -> RunSuite:
    """What runs suites against a database.

    Args:
        conninfo: the database's connection string for sessions that can't write, with this limit of a statement, in
            seconds.

    """

    async def run(rule: SuiteRule) -> SuiteResult:
        try:
            suite = json.loads(rule.suite.read_bytes())
        except (OSError, ValueError) as error:
            raise ReplicatorError(f"{rule.suite.name} can't be read as JSON: {error}", kind=ErrorKind.CONFIG) from error
        request = {
            "conninfo": conninfo(rule.timeout_seconds),
            "suite": suite,
            "schema": None if rule.table is None else rule.table.schema,
            "table": None if rule.table is None else rule.table.name,
            "query": rule.query,
        }
        answer = await _ask(request)
        if "error" in answer:
            raise ReplicatorError(
                answer["error"], kind=ErrorKind(answer.get("kind", ErrorKind.CONFIG)), hint=answer.get("hint")
            )
        return SuiteResult(answer["expectations"], tuple(answer["failed"]), tuple(answer["errors"]))

    return run


async def _ask(request: dict[str, Any]) -> dict[str, Any]:
    python = os.environ.get(PYTHON) or sys.executable
    try:
        process = await asyncio.create_subprocess_exec(
            python,
            str(_SCRIPT),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # progress bars, and messages that may show values
            env={**os.environ, **_NO_ANALYTICS},
        )
    except OSError as error:
        raise ReplicatorError(
            f"{python} can't be started: {error}", kind=ErrorKind.CONFIG, hint=f"{PYTHON} names it"
        ) from error
    try:
        out, _ = await process.communicate(json.dumps(request).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer: dict[str, Any] = json.loads(out)
    except ValueError:
        raise ReplicatorError(
            f"the process that runs the suite ended with code {process.returncode}, and gave no answer",
            kind=ErrorKind.INTERNAL,
        ) from None
    return answer
