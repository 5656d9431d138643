"""The project's documents, cut into what tests look at: code blocks, and commands with what they printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)  # indented ones stand in a list
_FILE = re.compile(r"(?:#|--) (\w+\.\w+)\n")


class Block(NamedTuple):
    """A fenced code block."""

    language: str
    text: str


class Step(NamedTuple):
    """A command of a `console` block, and what it printed."""

    command: str
    output: str


def documents() -> list[Path]:
    """Every document that a person reads first."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path) -> list[Block]:
    """Its code blocks, in order."""
    return [Block(language, dedent(text)) for language, text in _FENCE.findall(document.read_text())]


def files(document: Path) -> Iterator[tuple[str, str]]:
    """Blocks that begin with a comment that names a file: name and content."""
    for block in blocks(document):
        named = _FILE.match(block.text)
        if named:
            yield named[1], block.text


def steps(document: Path) -> Iterator[Step]:
    """Commands of its `console` blocks."""
    for block in blocks(document):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield Step(command, output.rstrip("\n"))
