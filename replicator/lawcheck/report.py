"""What a check of a transform's laws found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Law(StrEnum):
    """What a transform promises."""

    RUNS = "it takes every row that there is"
    PURE = "the same aggregate gives the same rows"
    FITS = "its rows fit their tables"
    KEYS = "two keys stay two"
    ROUND_TRIP = "the inverse gives back what there was"


@dataclass(frozen=True)
class Difference:
    """One column that didn't come back: its text before and after (None: NULL, or not given at all)."""

    column: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class LawFailure:
    """One way in which a law doesn't hold.

    Attributes:
        law: which one.
        table: the table concerned.
        columns: the columns concerned; () where it isn't about columns.
        message: what happened, without values.
        sampled: found on a row of the database; else on a generated one.
        key: key of the first aggregate that shows it.
        count: number of aggregates that show it.
        differences: values of the first one, when asked for.

    """

    law: Law
    table: str
    columns: tuple[str, ...]
    message: str
    sampled: bool
    key: tuple[str, ...]
    count: int = 1
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class LawReport:
    """What was checked of one transform, and what came of it.

    Attributes:
        mapping: its name.
        label: function and file.
        seed: gives the same generated aggregates again.
        generated: generated aggregates that the transform took.
        sampled: sampled aggregates that were tried.
        filtered: of both, those that it left out (nothing comes back of them, so the round trip isn't asked).
        refused: generated aggregates that it didn't take, by reason. No failure: they may be unlike real ones.
        failures: each way in which a law doesn't hold, once.
        unknown: what could not be checked, and why.

    """

    mapping: str
    label: str
    seed: int
    generated: int
    sampled: int
    filtered: int
    refused: dict[str, int]
    failures: tuple[LawFailure, ...]
    unknown: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no law was seen broken."""
        return not self.failures
