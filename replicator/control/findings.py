"""`/api/v1/findings`: what verification has found, by page, from the upgraded database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from replicator.errors import ErrorKind, ReplicatorError

ROWS: Final = 100
ROWS_MAX: Final = 1_000
STATES: Final = ("open", "closed", "all")


@dataclass(frozen=True)
class FindingsQuery:
    """What is asked for.

    Attributes:
        connector: which.
        state: one of `STATES`.
        table: of the upgraded side; None: all.
        after: findings with a higher number.
        limit: so many at most.

    """

    connector: str
    state: str = "open"
    table: str | None = None
    after: int = 0
    limit: int = ROWS


FindingsReader = Callable[[FindingsQuery], Awaitable[list[dict[str, Any]]]]
"""Reads a page, in order of the findings' numbers.

Raises:
    ReplicatorError: CONFIG, for a table's name that is none; CONNECTION.
"""


class WrongQueryError(ValueError):
    """What is wrong with a request, for whoever sent it."""


def parse_query(connector: str, given: Mapping[str, str]) -> FindingsQuery:
    """The request's parameters.

    Raises:
        WrongQueryError: saying which is wrong.

    """
    unknown = given.keys() - {"connector", "state", "table", "after", "limit"}
    if unknown:
        raise WrongQueryError(f"unknown parameter: {', '.join(sorted(unknown))}")
    state = given.get("state", "open")
    if state not in STATES:
        raise WrongQueryError(f"state is one of {', '.join(STATES)}")
    after, limit = (_whole(name, given.get(name, default)) for name, default in (("after", "0"), ("limit", str(ROWS))))
    if not 1 <= limit <= ROWS_MAX:
        raise WrongQueryError(f"limit is 1 to {ROWS_MAX}")
    return FindingsQuery(connector, state, given.get("table"), after, limit)


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise WrongQueryError(f"{name} is a whole number")
    return int(text)


async def answer(connector: str, given: Mapping[str, str], read: FindingsReader) -> web.StreamResponse:
    """One page, as JSON; `next` is the following page's `after`, null at the end."""
    try:
        query = parse_query(connector, given)
        rows = await read(query)
    except WrongQueryError as error:
        return web.json_response({"error": str(error)}, status=400)
    except ReplicatorError as error:
        return web.json_response({"error": str(error)}, status=400 if error.kind is ErrorKind.CONFIG else 503)
    following = rows[-1]["id"] if len(rows) == query.limit else None
    document = {"connector": connector, "findings": rows, "next": following}
    return web.json_response(document, headers={"Cache-Control": "no-store"})
