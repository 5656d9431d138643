"""Durations as options."""

from __future__ import annotations

import click

from replicator.config import parse_duration


class Duration(click.ParamType[float]):
    """`500ms`, `60s`, `5m`: seconds, read as a connector's durations are."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse it; click shows what is wrong, and ends with 2."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value)).total_seconds()
        except ValueError as error:
            self.fail(str(error), param, ctx)
