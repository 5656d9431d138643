"""Suites of Great Expectations: run again while something isn't met, for what is in flight when one runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING

from replicator.engine.checks.answers import listed
from replicator.engine.checks.looks import KEYS_MAX, Ends, Found, Rows, confirmed
from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.checks import RunSuite, SuiteRule


async def look_at_suite(rule: SuiteRule, ends: Ends, run: RunSuite) -> Found:
    """Whether every expectation is met."""
    expectations = 0

    async def look() -> Rows:
        nonlocal expectations
        found = await run(rule)
        expectations = found.expectations
        if found.errors:
            raise ReplicatorError(
                f"expectations could not be evaluated: {listed(found.errors, len(found.errors), KEYS_MAX)}",
                kind=ErrorKind.CONFIG,
            )
        async with ends.target.checking() as snapshot:
            return Rows(Counter[Hashable](found.failed), held=await snapshot.deferred() > 0)

    ok, rows, position = await confirmed(look, ends)
    if ok is None:
        return Found(ok=None, message="expectations were met and not met by turns", position=position)
    if ok:
        return Found(ok=True, message=f"{expectations} expectations met", position=position)
    failed = [str(one) for one in rows]
    message = f"{len(failed)} of {expectations} expectations not met: {listed(failed, len(failed), KEYS_MAX)}"
    return Found(ok=False, message=message, keys=tuple(failed[:KEYS_MAX]), position=position)
