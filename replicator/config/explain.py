"""What pydantic finds wrong, as problems with a place in the file, a path and a suggestion.

A value is repeated only where it can't be a secret: it was written in the file itself, and its field has a closed form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from replicator.config.document import Document, KeyPath, Mark
from replicator.config.models import Connector
from replicator.config.problems import Problem, closest

_SHOWN_TYPES: Final = frozenset(
    {"expected", "int_parsing", "int_from_float", "int_parsing_size", "bool_parsing", "greater_than_equal"}
    | {"less_than_equal"}
)
_EXPECTED: Final[Mapping[str, str]] = {
    "bool_parsing": "expected on or off",
    "bool_type": "expected on or off",
    "dict_type": "expected a mapping (key: value)",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "int_type": "expected a whole number",
    "model_attributes_type": "expected a mapping (key: value)",
    "model_type": "expected a mapping (key: value)",
    "string_type": "expected a text",
    "tuple_type": "expected a list",
    "too_short": "expected at least one",
}
_SHOWN_LENGTH_MAX: Final = 60
_NAME_LIKE: Final = re.compile(r"[\w.$ -]{1,63}")


class _Place(NamedTuple):
    """An error's location in the file's own terms, and the section models that stand there."""

    path: KeyPath
    owner: type[BaseModel] | None
    key: bool  # the key of a mapping is meant, not its value


def problems_of(errors: Sequence[ErrorDetails], document: Document, file: str) -> Iterator[Problem]:
    """One problem or more for each of pydantic's errors; none for values that could not be substituted."""
    for error in errors:
        place = _locate(error["loc"])
        if error["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            place = place._replace(path=(*place.path, "kind"))
        if place.path in document.failed:
            continue
        if error["type"] == "breaches":
            for at, message in error["ctx"]["breaches"]:
                path = (*place.path, *at)
                if path not in document.failed:
                    yield _problem(document, file, path, _prefixed(path, message))
        else:
            message, suggestion = _describe(error, place, document)
            yield _problem(document, file, place.path, message, suggestion)


def dotted(path: KeyPath) -> str:
    """`("tables", 2, "old")` as `tables[2].old`; a key that looks like a misplaced value is cut out."""
    text = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part if _NAME_LIKE.fullmatch(part) else '...'}" for part in path
    )
    return text.removeprefix(".")


def mark_of(document: Document, path: KeyPath, *, key: bool = False) -> Mark:
    """The place of a value (or of its key); of the nearest section around it, where it isn't in the file."""
    if key and path in document.key_marks:
        return document.key_marks[path]
    while path and path not in document.marks:
        path = path[:-1]
    if isinstance(_value_at(document, path), dict):
        return document.key_marks.get(path, document.marks[path])
    return document.marks[path]


def _problem(document: Document, file: str, path: KeyPath, message: str, suggestion: str | None = None) -> Problem:
    mark = mark_of(document, path, key=message.startswith("unknown key"))
    return Problem(file, mark.line, mark.column, dotted(path), message, suggestion)


def _describe(error: ErrorDetails, place: _Place, document: Document) -> tuple[str, str | None]:
    """Message and suggestion for one error of one value."""
    kind, path = error["type"], place.path
    context: dict[str, Any] = error.get("ctx", {})
    parent = dotted(path[:-1]) or "connector"
    if kind == "extra_forbidden":
        name = str(path[-1])
        shown = f" {name!r}" if name.isascii() and name.isidentifier() and len(name) < 40 else ""
        known = list(place.owner.model_fields) if place.owner else []
        return f"unknown key{shown} in {parent}", closest(name, known)
    if kind == "missing" or (kind == "union_tag_not_found" and path not in document.marks):
        return f"missing key {path[-1]!r} in {parent}", None
    if _value_at(document, path) is None and path in document.marks:
        return _prefixed(path, "is empty: give it a value, or remove the key"), None
    if kind in {"literal_error", "union_tag_invalid"}:
        choices = str(context.get("expected") or context.get("expected_tags"))
        known = re.findall(r"'([^']*)'", choices)
        message = f"expected {' or '.join(map(repr, known))}"
        value = _shown(path, document)
        suggestion = None if value is None else closest(value, known)
        return _prefixed(path, message + _but(value)), suggestion
    message = _EXPECTED.get(kind, "")
    if kind in {"greater_than_equal", "less_than_equal"}:
        limit = "at least" if kind.startswith("greater") else "at most"
        message = f"expected {limit} {context.get('ge', context.get('le'))}"
    closed = kind in _SHOWN_TYPES and not place.key
    value = _shown(path, document) if closed else None
    return _prefixed(path, (message or error["msg"]) + _but(value)), None


def _shown(path: KeyPath, document: Document) -> str | None:
    """The value, if it is a short text that stands in the file itself."""
    value = _value_at(document, path)
    if path in document.substituted or not isinstance(value, str) or len(value) > _SHOWN_LENGTH_MAX:
        return None
    return value


def _but(value: str | None) -> str:
    return "" if value is None else f", not {value!r}"


def _prefixed(path: KeyPath, message: str) -> str:
    return f"{dotted(path)}: {message}" if path else message


def _value_at(document: Document, path: KeyPath) -> object:
    """The value at a path of the file, None where there is none."""
    value: Any = document.value
    for part in path:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def _locate(location: tuple[str | int, ...]) -> _Place:
    """Pydantic's location without the tags of unions that it puts between the keys."""
    path: list[str | int] = []
    models: list[type[BaseModel]] = [Connector]
    owner: type[BaseModel] | None = None
    for part in location:
        if part == "[key]":
            continue
        if len(models) > 1:
            models = [model for model in models if part in _tags(model)] or models[:1]
            continue
        owner = models[0] if models else owner
        path.append(part)
        if isinstance(part, int):
            continue
        field = models[0].model_fields.get(part) if models else None
        models = [] if field is None else list(_models(field.annotation))
    return _Place(tuple(path), owner, key=location[-1:] == ("[key]",))


def _tags(model: type[BaseModel]) -> tuple[object, ...]:
    """The values of `kind` that choose this model from its union."""
    return get_args(model.model_fields["kind"].annotation)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The section models in a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
