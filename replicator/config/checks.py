"""The section `checks`: rules of the business, and suites of Great Expectations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from replicator.config.fields import JsonFile, PositiveDuration, SingleTable, Text, Tolerance
from replicator.config.section import Breach, Section
from replicator.config.units import parse_duration


class Check(Section):
    """A rule of the business: two queries that agree, one that returns no row, or a suite of Great Expectations."""

    name: Text = Field(description="Unique in this file; results are kept under it.")
    old: Text | None = Field(default=None, description="SQL for the old database.")
    upgraded: Text | None = Field(default=None, description="SQL for the upgraded database.")
    severity: Literal["block", "warn"] = Field(
        default="block", description="Whether there is a certificate, and so a cutover, while it fails."
    )
    tolerance: Tolerance | None = Field(
        default=None, description="Of both queries' numbers the difference that is let pass, of moments in seconds."
    )
    timeout: PositiveDuration = Field(default=parse_duration("1m"), description="Limit of each of its queries.")
    show: bool = Field(default=False, description="Reports may show values of rows, not only their first column.")
    great_expectations: JsonFile | None = Field(
        default=None, description="A suite in JSON, relative to this file; for `table`, or the result of `upgraded`."
    )
    table: SingleTable | None = Field(default=None, description="The suite's table of the upgraded database.")

    def _breaches(self) -> Iterable[Breach]:
        if self.great_expectations is None:
            if self.old is None and self.upgraded is None:
                yield Breach((), "expected SQL in old, in upgraded, or in both; or a suite in great_expectations")
            if self.table is not None:
                yield Breach(("table",), "only a suite in great_expectations has a table")
            if self.tolerance is not None and (self.old is None or self.upgraded is None):
                yield Breach(("tolerance",), "only two queries that are compared have a tolerance")
            return
        if (self.table is None) is (self.upgraded is None):
            yield Breach((), "a suite looks at a table, or at the result of a query: expected table or upgraded")
        if self.old is not None:
            yield Breach(("old",), "a suite looks at the upgraded database alone")
        if self.tolerance is not None:
            yield Breach(("tolerance",), "a suite says in its expectations what it lets pass")
