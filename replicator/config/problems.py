"""What is wrong with a connector, with the place where it is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from replicator.errors import ErrorKind, ReplicatorError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct in a connector. Never holds a secret or a substituted value.

    Attributes:
        path: the file, as the user named it.
        line: counted from 1; 0 where the whole file or folder is meant.
        column: counted from 1, in characters; 0 where the whole file or folder is meant.
        key: dotted path of the key, such as `apply.lanes` or `tables[2].old`; empty for the whole file.
        message: what is wrong and what is expected.
        suggestion: what was probably meant, where one can tell; printed behind "did you mean".

    """

    path: str
    line: int
    column: int
    key: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        """`file:line:column: message; did you mean 'x'?`, on one line."""
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        hint = "" if self.suggestion is None else f"; did you mean {self.suggestion!r}?"
        return f"{place}: {self.message}{hint}"


class ConfigError(ReplicatorError):
    """A connector can't work as written: every problem found, in order of files and positions.

    Its text is one line a problem.

    Args:
        problems: at least one.

    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)), kind=ErrorKind.CONFIG)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None if none is near."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
