"""A YAML file as plain values, with the place of every key and value.

Scalars stay text: `on`, `5s` and `007` get their type from the field that takes them, so that a column named `no` is
no boolean. Only an empty plain scalar, `~` and `null` are None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import yaml

from replicator.config.environment import Environment

FILE_BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 32
NODES_MAX: Final = 100_000
"""Nodes after aliases are expanded: what bounds an alias bomb."""

KeyPath: TypeAlias = tuple[str | int, ...]
Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_NOT_TEXT: Final = re.compile("[\0\ud800-\udfff]")
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_LINE_END: Final = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")


class Mark(NamedTuple):
    """A place in the file, counted from 1."""

    line: int
    column: int


class Finding(NamedTuple):
    """A problem of the file as YAML."""

    mark: Mark
    message: str
    suggestion: str | None = None
    path: KeyPath = ()


class DocumentError(Exception):
    """The text is no usable YAML at all; there is nothing to go on with."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@dataclass(slots=True)
class Document:
    """What one file says.

    Attributes:
        value: dicts, lists, texts and None.
        marks: the place of each value, by its path.
        key_marks: the place of each mapping key, by the path of its value.
        substituted: paths of scalars that hold a substituted value: not to be shown.
        failed: paths of scalars without a value, already reported in `findings`.
        findings: duplicate keys, references that can't be resolved, and the like.

    """

    value: Value = None
    marks: dict[KeyPath, Mark] = field(default_factory=dict)
    key_marks: dict[KeyPath, Mark] = field(default_factory=dict)
    substituted: set[KeyPath] = field(default_factory=set)
    failed: set[KeyPath] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def read_document(raw: bytes, environment: Environment) -> Document:
    """Parse one file and substitute its references.

    Raises:
        DocumentError: not UTF-8, too large, no YAML, more than one document, empty, no mapping.

    """
    text = _decode(raw)
    root = _Parser(text).root()
    if not isinstance(root, _Map):
        if isinstance(root, _Scalar) and root.plain and root.text in _NULLS:
            raise DocumentError(Finding(Mark(1, 1), "the file is empty; a connector is expected"))
        raise DocumentError(Finding(root.mark, "expected a mapping (key: value) at the top"))
    builder = _Builder(environment)
    builder.document.value = builder.build(root, ())
    return builder.document


@dataclass(slots=True)
class _Scalar:
    mark: Mark
    text: str
    plain: bool


@dataclass(slots=True)
class _List:
    mark: Mark
    items: list[_Node]


@dataclass(slots=True)
class _Map:
    mark: Mark
    pairs: list[tuple[_Scalar, _Node]]


_Node: TypeAlias = "_Scalar | _List | _Map"


class _Parser:
    """Nodes from PyYAML's events, which come from a loop: depth is bounded here, not by the interpreter's stack."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._events = self._checked()
        self._anchors: dict[str, _Node] = {}
        self._depth = 0

    def root(self) -> _Node:
        next(self._events)  # StreamStart
        first = next(self._events)
        if isinstance(first, yaml.StreamEndEvent):
            return _Scalar(Mark(1, 1), "", plain=True)
        node = self._node(next(self._events))
        next(self._events)  # DocumentEnd
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise DocumentError(Finding(_mark(after), "a second document; one file holds one connector"))
        return node

    def _checked(self) -> Iterator[yaml.Event]:
        """Events; whatever PyYAML says against the text becomes a `DocumentError`."""
        try:
            yield from yaml.parse(self._text, Loader=yaml.SafeLoader)
        except yaml.reader.ReaderError as error:
            finding = Finding(_mark_at(self._text, error.position), "a character YAML doesn't allow")
        except yaml.MarkedYAMLError as error:
            finding = _syntax(error, self._text)
        except (yaml.YAMLError, ValueError, OverflowError):  # "\UFFFFFFFF", "%YAML 1e99999"
            finding = Finding(Mark(1, 1), "the file is not valid YAML")
        else:
            return
        raise DocumentError(finding)

    def _node(self, event: yaml.Event) -> _Node:
        mark = _mark(event)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise DocumentError(Finding(mark, "an alias (*) of an anchor (&) that isn't above"))
            return self._anchors[event.anchor]
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag is not None:
            raise DocumentError(Finding(mark, "tags (!) are not supported"))
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise DocumentError(Finding(mark, f"nested deeper than {DEPTH_MAX} levels"))
        node = self._content(event, mark)
        self._depth -= 1
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _content(self, event: yaml.Event, mark: Mark) -> _Node:
        if isinstance(event, yaml.ScalarEvent):
            return _Scalar(mark, event.value, plain=event.style is None)
        if isinstance(event, yaml.SequenceStartEvent):
            return _List(mark, list(map(self._node, self._until(yaml.SequenceEndEvent))))
        pairs: list[tuple[_Scalar, _Node]] = []
        for start in self._until(yaml.MappingEndEvent):
            key = self._node(start)
            if not isinstance(key, _Scalar):
                raise DocumentError(Finding(key.mark, "expected a word as key"))
            # an alias as key stands where it is used
            pairs.append((_Scalar(_mark(start), key.text, key.plain), self._node(next(self._events))))
        return _Map(mark, pairs)

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self._events), end):
            yield event


class _Builder:
    """Values, marks and findings from nodes; aliases and merge keys are expanded here, within `NODES_MAX`."""

    def __init__(self, environment: Environment) -> None:
        self.document = Document()
        self._environment = environment
        self._nodes = 0

    def build(self, node: _Node, path: KeyPath) -> Value:
        self._count(node)
        self.document.marks[path] = node.mark
        match node:
            case _Scalar():
                return self._scalar(node, path)
            case _List():
                return [self.build(item, (*path, index)) for index, item in enumerate(node.items)]
            case _Map():
                return self._mapping(node, path)

    def _count(self, node: _Node) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise DocumentError(Finding(node.mark, f"more than {NODES_MAX} values"))

    def _mapping(self, node: _Map, path: KeyPath) -> Value:
        pairs: dict[str, tuple[_Scalar, _Node]] = {}
        merged: list[_Map] = []
        for key, child in node.pairs:
            if key.plain and key.text == "<<":
                merged.extend(self._merged(key, child))
            elif key.text in pairs:
                first = pairs[key.text][0].mark
                message = f"duplicate key{_named(key.text)}, first at {first.line}:{first.column}"
                self._find(key.mark, message, (*path, key.text))
            elif _NOT_TEXT.search(key.text):
                self._find(key.mark, "a key that is not text", path)
            else:
                pairs[key.text] = key, child
        for other in merged:
            self._count(other)
            for key, child in other.pairs:
                self._count(child)
                pairs.setdefault(key.text, (key, child))
        result: dict[str, Value] = {}
        for name, (key, child) in pairs.items():
            self.document.key_marks[*path, name] = key.mark
            result[name] = self.build(child, (*path, name))
        return result

    def _merged(self, key: _Scalar, child: _Node) -> list[_Map]:
        nodes = child.items if isinstance(child, _List) else [child]
        found = [node for node in nodes if isinstance(node, _Map)]
        if len(found) != len(nodes):
            self._find(key.mark, "a merge key (<<) takes a mapping, or a list of mappings", ())
        return found

    def _scalar(self, node: _Scalar, path: KeyPath) -> Value:
        if node.plain and node.text in _NULLS:
            return None
        if _NOT_TEXT.search(node.text):
            self.document.failed.add(path)
            self._find(node.mark, "a value that is not text (NUL or half a surrogate pair)", path)
            return ""
        result = self._environment.substitute(node.text)
        if result.changed:
            self.document.substituted.add(path)
        for failure in result.failures:
            self.document.failed.add(path)
            self._find(node.mark, failure.message, path, failure.suggestion)
        return result.text

    def _find(self, mark: Mark, message: str, path: KeyPath, suggestion: str | None = None) -> None:
        self.document.findings.append(Finding(mark, message, suggestion, path))


def _decode(raw: bytes) -> str:
    if len(raw) > FILE_BYTES_MAX:
        raise DocumentError(Finding(Mark(1, 1), f"the file is larger than {FILE_BYTES_MAX} bytes"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", "replace")
        mark = _mark_at(before, len(before))
    raise DocumentError(Finding(mark, "the file is not UTF-8 text"))


def _syntax(error: yaml.MarkedYAMLError, text: str) -> Finding:
    """PyYAML's complaint with its place; words of the file are cut out of it, they may be secret."""
    mark = error.problem_mark or error.context_mark
    place = Mark(1, 1) if mark is None else Mark(mark.line + 1, mark.column + 1)
    lines = _LINE_END.split(text)
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    problem = str(error.problem or error.context or "")
    problem = _QUOTED.sub(_kept, problem)
    if "'\\t'" in problem or "\t" in line[: len(line) - len(line.lstrip())]:
        problem = "a tab; YAML is indented with spaces"
    elif re.search(r"[{\[].*(?<!\$)\$\{", line):
        problem = 'inside { } and [ ] a reference is written in quotes: "${NAME}"'
    return Finding(place, f"the file is not valid YAML: {problem}")


def _kept(quoted: re.Match[str]) -> str:
    """A quoted part of PyYAML's message, if it is a token's name or one character."""
    return quoted[0] if re.fullmatch(r"'(<[a-z ]+>|\\?.{1,2})'", quoted[0]) else "something else"


def _named(key: str) -> str:
    """The key for a message, if it looks like one: a value in the wrong place may be a secret."""
    return f" {key!r}" if re.fullmatch(r"[A-Za-z_][\w-]{0,62}", key) else ""


def _mark(event: yaml.Event) -> Mark:
    mark = event.start_mark
    return Mark(1, 1) if mark is None else Mark(mark.line + 1, mark.column + 1)


def _mark_at(text: str, position: int) -> Mark:
    lines = _LINE_END.split(text[:position])
    return Mark(len(lines), len(lines[-1]) + 1)
