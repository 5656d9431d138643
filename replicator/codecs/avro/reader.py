"""Readers of Avro's binary encoding, one generated for each schema.

Encoding: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding. A general reader asks at each value what
comes next; a generated one knows. On Debezium's events it takes half the time of fastavro's, which is C: it makes no
value of what nobody asks for, reads at once what is the same in every record, and most integers by one index into the
buffer. fastavro is what the tests compare it with. It checks bounds by what Python checks anyway (an index beyond the
end raises), and by one comparison at the end: a slice may be cut short, but then what follows lies beyond the end too.
"""

from __future__ import annotations

import re
import struct
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NoReturn

from replicator.codecs.debezium.fields import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

NAMED: Final = frozenset({"record", "enum", "fixed"})
_EMPTY_MAX: Final = 1_000
_double = struct.Struct("<d").unpack_from
_float = struct.Struct("<f").unpack_from


def compile_reader(
    schema: Any, *, unneeded: Collection[str] = (), rows: Collection[str] = (), steady: Collection[str] = ()
) -> Callable[[bytes, int], Any]:
    """A reader of one schema.

    Args:
        schema: parsed and found valid; its logical types are passed over: a date stays a number.
        unneeded: dotted paths of fields whose values nobody asks for (`source.version`); they are left out.
        rows: dotted paths of records that are read as tuples, in the order of their fields.
        steady: dotted paths of fields that are mostly what they were in the value before: they are compared with that.

    Returns:
        From a buffer, and where the value begins in it (it ends with the buffer), to the value: None, bool, int, float,
        bytes, str, list, dict (records and maps), or tuple (of `rows`). Raises `MalformedError`, which says why, and
        no value.

    """
    generator = _Generator(frozenset(unneeded), frozenset(rows), frozenset(steady))
    read = generator.function(schema, "", "")

    def whole(data: bytes, at: int) -> Any:
        try:
            value, end = read(data, at)
        except (IndexError, struct.error):
            raise MalformedError("it ends too early") from None
        except UnicodeDecodeError:
            raise MalformedError("a text in it is not UTF-8") from None
        except RecursionError:
            raise MalformedError("it is nested too deeply") from None
        if end != len(data):
            raise MalformedError(
                "it ends too early" if end > len(data) else f"{len(data) - end} bytes of it are left over"
            )
        return value

    return whole


class _Generator:
    """Writes the functions of one schema: one for each record, and for whatever else is not written in line."""

    def __init__(self, unneeded: frozenset[str], rows: frozenset[str], steady: frozenset[str]) -> None:
        self._unneeded = unneeded
        self._rows = rows
        self._steady = steady
        self._named: dict[str, tuple[Any, str]] = {}
        self._made: dict[tuple[str, str | None, bool], str] = {}
        self._names: dict[str, Any] = {
            "varint": _varint,
            "passed": _passed,
            "double": _double,
            "float4": _float,
            "bad": _bad,
            "count": _count,
        }

    def function(self, schema: Any, namespace: str, path: str) -> Callable[[bytes, int], tuple[Any, int]]:
        """A function that reads a value and says where it ends."""
        body = _Body()
        self.value(body, schema, namespace, path)
        made: Callable[[bytes, int], tuple[Any, int]] = self._define(body, "v")
        return made

    def _define(self, body: _Body, result: str, name: str | None = None) -> Any:
        name = name or f"read{len(self._names)}"
        text = "\n".join([f"def {name}(d, p):", *body.lines, f"    return {result}, p"])
        # Schemas come from outside, but nothing of them gets into this text but the repr of their names, and numbers.
        exec(compile(text, f"<avro {name}>", "exec"), self._names)  # noqa: S102
        return self._names[name]

    def value(self, body: _Body, schema: Any, namespace: str, path: str) -> None:
        """Lines that leave the value in `v`."""
        if isinstance(schema, list):
            self._union(body, schema, namespace, path)
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, dict | list):
            self.value(body, kind, namespace, path)
        elif kind in NAMED:
            self._definition(body, schema, namespace, path)
        elif kind in {"array", "map"}:
            self._blocks(body, schema, namespace, path)
        elif kind in _INLINE:
            body.add(*_INLINE[kind])
        else:
            found = f"{namespace}.{kind}"
            definition, own = self._named[found if found in self._named else kind]
            self._definition(body, definition, own, path)

    def _union(self, body: _Body, branches: list[Any], namespace: str, path: str) -> None:
        body.add("k = d[p]; p += 1")
        if len(branches) > 64:
            body.add("if k > 127: k, p = varint(d, p, k)")
        for index, branch in enumerate(branches):
            body.add(f"{'el' if index else ''}if k == {index * 2}:")
            with body:
                self.value(body, branch, namespace, path)
        body.add("else: bad('it names a branch that its union has not')")

    def _definition(self, body: _Body, schema: Mapping[str, Any], namespace: str, path: str) -> None:
        full, own = full_name(schema, namespace)
        self._named[full] = (schema, namespace)
        if schema["type"] == "fixed":
            body.add(f"v = d[p:p + {int(schema['size'])}]; p += {int(schema['size'])}")
        elif schema["type"] == "enum":
            symbols = self._constant(tuple(schema["symbols"]))
            body.add(
                *_LONG, f"if not 0 <= v < {len(schema['symbols'])}: bad('it names a symbol that its enum has not')"
            )
            body.add(f"v = {symbols}[v]")
        else:
            prefix = f"{path}." if path else ""
            partial = any(one.startswith(prefix) for one in self._unneeded | self._rows | self._steady)
            which = (full, prefix if partial else None, path in self._rows)
            name = self._made.get(which)
            if name is None:
                name = self._made[which] = f"record{len(self._made)}"
                self._record(name, schema, own, path)
            body.add(f"v, p = {name}(d, p)")

    def _record(self, name: str, schema: Mapping[str, Any], namespace: str, path: str) -> None:
        body, kept = _Body(), []
        fields = [
            (f"{path}.{field['name']}" if path else field["name"], f"f{at}", field)
            for at, field in enumerate(schema["fields"])
        ]
        for how, run in groupby(fields, lambda one: self._how(one[0], one[2]["type"])):
            members = list(run)
            kept += [(field["name"], variable) for place, variable, field in members if place not in self._unneeded]
            if how == "passed":
                body.add(f"p = passed({self._constant(_passing(field['type'] for *_, field in members))}, d, p)")
            elif how == "steady":
                self._steady_run(body, members, namespace)
            else:
                for place, variable, field in members:
                    self._field(body, field["type"], namespace, place, variable)
        if path in self._rows:
            self._define(body, "(" + "".join(f"{variable}, " for _, variable in kept) + ")", name)
        else:
            self._define(body, "{" + ", ".join(f"{field!r}: {variable}" for field, variable in kept) + "}", name)

    def _how(self, path: str, schema: Any) -> str:
        if path in self._steady:
            return "steady"
        return "passed" if path in self._unneeded and _pattern(schema) is not None else "read"

    def _field(self, body: _Body, schema: Any, namespace: str, path: str, variable: str) -> None:
        """Lines that leave a field in its variable, or only move on."""
        kind = schema["type"] if isinstance(schema, dict) else schema
        if path in self._unneeded and kind in ("string", "bytes"):
            body.add(*_LENGTH, "p = n")
            return
        self.value(body, schema, namespace, path)
        if path not in self._unneeded:
            body.add(f"{variable} = v")

    def _steady_run(self, body: _Body, fields: list[tuple[str, str, Any]], namespace: str) -> None:
        """Lines that read fields, or find that their bytes are those of the value before, and take what they were.

        No value's bytes begin another's, so equal bytes are the same fields, whatever follows them.
        """
        memory = self._constant([b"", ()])
        kept = "".join(f"{variable}, " for path, variable, _ in fields if path not in self._unneeded)
        body.add(f"s = {memory}[0]", "if s and d.startswith(s, p):")
        with body:
            body.add("p += len(s)", *([f"({kept}) = {memory}[1]"] if kept else []))
        body.add("else:")
        with body:
            body.add("q = p")
            for path, variable, field in fields:
                self._field(body, field["type"], namespace, path, variable)
            body.add(f"if p <= len(d): {memory}[:] = d[q:p], ({kept})")

    def _blocks(self, body: _Body, schema: Mapping[str, Any], namespace: str, path: str) -> None:
        """Lines that leave a list, or a dict, in `v`; what is in it is read by a function of its own."""
        inner = _Body()
        if schema["type"] == "map":
            inner.add(*_STRING, "key = v")
            self.value(inner, schema["values"], namespace, path)
            read = self._define(inner, "(key, v)")
        else:
            self.value(inner, schema["items"], namespace, path)
            read = self._define(inner, "v")
        body.add("v = []", "n, p = count(d, p)", "while n:")
        with body:
            body.add("for _ in range(n):")
            with body:
                body.add(f"i, p = {read.__name__}(d, p)", "v.append(i)")
            body.add("n, p = count(d, p)")
        if schema["type"] == "map":
            body.add("v = dict(v)")

    def _constant(self, value: Any) -> str:
        name = f"constant{len(self._names)}"
        self._names[name] = value
        return name


class _Body:
    """Lines of a function; `with` goes one level in."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._indent = "    "

    def add(self, *lines: str) -> None:
        self.lines += [self._indent + line for line in lines]

    def __enter__(self) -> None:
        self._indent += "    "

    def __exit__(self, *exception: object) -> None:
        self._indent = self._indent[:-4]


_LENGTH: Final = (
    "n = d[p]; p += 1",
    "if n > 127: n, p = varint(d, p, n)",
    "if n & 1: bad('a length in it is negative')",
    "n = p + (n >> 1)",
)
_LONG: Final = ("v = d[p]; p += 1", "if v > 127: v, p = varint(d, p, v)", "v = v >> 1 ^ -(v & 1)")
_STRING: Final = (*_LENGTH, "v = str(d[p:n], 'utf-8'); p = n")
_INLINE: Final[Mapping[str, tuple[str, ...]]] = {
    "null": ("v = None",),
    "boolean": ("v = d[p]; p += 1", "if v > 1: bad('a boolean in it is neither')", "v = v == 1"),
    "int": _LONG,
    "long": _LONG,
    "float": ("v, = float4(d, p); p += 4",),
    "double": ("v, = double(d, p); p += 8",),
    "bytes": (*_LENGTH, "v = d[p:n]; p = n"),
    "string": _STRING,
}
PRIMITIVE: Final = frozenset(_INLINE)
_PATTERNS: Final[Mapping[str, bytes]] = {
    "null": b"",
    "boolean": rb"[\0\1]",
    "int": rb"[\x80-\xff]{0,9}[\0-\x7f]",
    "long": rb"[\x80-\xff]{0,9}[\0-\x7f]",
    "float": rb".{4}",
    "double": rb".{8}",
}
"""Of values that have no length of their own."""


def _pattern(schema: Any) -> bytes | None:
    """What the bytes of a value look like; None where no regular expression says that."""
    if isinstance(schema, list):
        branches = [_pattern(branch) for branch in schema[:64]]
        if None in branches or len(schema) > len(branches):
            return None
        each = (re.escape(bytes((at * 2,))) + (branch or b"") for at, branch in enumerate(branches))
        return b"(?:" + b"|".join(each) + b")"
    kind = schema["type"] if isinstance(schema, dict) else schema
    return _PATTERNS.get(kind) if isinstance(kind, str) else None


def _passing(schemas: Iterable[Any]) -> Callable[[bytes, int], re.Match[bytes] | None]:
    return re.compile(b"".join(_pattern(one) or b"" for one in schemas), re.DOTALL).match


def _passed(match: Callable[[bytes, int], re.Match[bytes] | None], data: bytes, at: int) -> int:
    """Behind what the pattern says."""
    found = match(data, at)
    if found is None:
        raise MalformedError("a part of it that nobody reads is not what its schema says, or it ends too early")
    return found.end()


def full_name(schema: Mapping[str, Any], namespace: str) -> tuple[str, str]:
    """Full name of a named type, and the namespace that it gives to what is in it."""
    name: str = schema["name"]
    if "." in name:
        return name, name.rpartition(".")[0]
    own = str(schema.get("namespace", namespace))
    return (f"{own}.{name}" if own else name), own


def _varint(data: bytes, at: int, first: int) -> tuple[int, int]:
    """The rest of a variable-length number whose first byte has been read. At most ten bytes are 64 bits.

    The bits that say that more comes (128, 128 << 7, ...) are added with the others, and taken away at the end.
    """
    one = data[at]
    if one < 128:
        return first + (one << 7) - 0x80, at + 1
    two = data[at + 1]
    if two < 128:
        return first + (one << 7) + (two << 14) - 0x4080, at + 2
    three = data[at + 2]
    number = first + (one << 7) + (two << 14) + (three << 21)
    if three < 128:
        return number - 0x204080, at + 3
    four = data[at + 3]
    number += four << 28
    if four < 128:
        return number - 0x10204080, at + 4
    five = data[at + 4]
    number += five << 35
    if five < 128:
        return number - 0x810204080, at + 5
    return _long_varint(data, at + 5, number - 0x40810204080)


def _long_varint(data: bytes, at: int, number: int) -> tuple[int, int]:
    """From the seventh byte on."""
    for shift in (42, 49, 56, 63):
        byte = data[at]
        at += 1
        if byte < 128:
            number += byte << shift
            if number >> 64:
                break
            return number, at
        number += (byte & 127) << shift
    raise MalformedError("a number in it is longer than 64 bits")


def _count(data: bytes, at: int) -> tuple[int, int]:
    """How many items come in this block, 0 for the end.

    Items of no bytes (null) would make a short record endless, so a few of them are believed, no more.
    """
    number = data[at]
    at += 1
    if number > 127:
        number, at = _varint(data, at, number)
    count = number >> 1 ^ -(number & 1)
    if count < 0:  # then the block's size follows
        count = -count
        size = data[at]
        at += 1
        if size > 127:
            size, at = _varint(data, at, size)
    if count > len(data) - at + _EMPTY_MAX:
        raise MalformedError("it ends too early")
    return count, at


def _bad(why: str) -> NoReturn:
    raise MalformedError(why)
