"""What all parts of a connector share: strict, frozen, and rules over several fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Breach(NamedTuple):
    """A rule over several fields that doesn't hold: where, below the section, and what."""

    at: tuple[str | int, ...]
    message: str


def _refuse(breaches: Iterable[Breach]) -> None:
    found = list(breaches)
    if found:
        text = "; ".join(breach.message for breach in found)
        raise PydanticCustomError("breaches", "{text}", {"text": text, "breaches": found})


class Section(BaseModel):
    """What all parts of a connector share: frozen, unknown keys are errors, no value in an error's text."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    @model_validator(mode="after")
    def _rules(self) -> Self:
        _refuse(self._breaches())
        return self

    def _breaches(self) -> Iterable[Breach]:
        """The rules over several fields that this section breaks."""
        return ()
