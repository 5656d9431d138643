"""Keys that change: `replicator.key_map` in the target, and the other feed's map in the source.

A key is looked up in the target's map, then in the source's (written by the other feed), and only then made by the
mapping's function or by a sequence; what is new is stored in the target's map, in the caller's transaction. One
statement a step, whatever the number of keys.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from replicator.errors import ErrorKind, ReplicatorError
from replicator.postgres.arrays import decode_text_array, encode_text_array
from replicator.postgres.wire import Command

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from replicator.events import Key
    from replicator.mapping import KeyMapping
    from replicator.postgres.wire import Wire

CACHE_MAX: Final = 200_000  # committed pairs kept in memory, about 300 bytes each
_THERE: Final = b"SELECT pg_catalog.to_regclass('replicator.key_map') IS NOT NULL"

OpenWire = Callable[[], Awaitable["Wire"]]

Pairs = dict[tuple[str, bool], dict["Key", "Key"]]
"""By mapping name and direction (`KeyMapping.forward`): source keys to target keys."""


class KeyCache:
    """Pairs that are committed in the target's map; the least recently used ones leave."""

    def __init__(self, size_max: int = CACHE_MAX) -> None:
        self._size_max = size_max
        self._pairs: OrderedDict[tuple[str, bool, Key], Key] = OrderedDict()

    def get(self, keys: KeyMapping, key: Key) -> Key | None:
        """The target's key, if it is here."""
        at = (keys.name, keys.forward, key)
        found = self._pairs.get(at)
        if found is not None:
            self._pairs.move_to_end(at)
        return found

    def add(self, pairs: Pairs) -> None:
        """Add what a transaction has read or made and committed."""
        for (name, forward), found in pairs.items():
            for source, target in found.items():
                self._pairs[name, forward, source] = target
        while len(self._pairs) > self._size_max:
            self._pairs.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._pairs.clear()


class PendingKeys:
    """Pairs that one transaction knows: they reach the cache when it commits, and go with a savepoint rolled back."""

    def __init__(self, cache: KeyCache) -> None:
        self._cache = cache
        self._layers: list[Pairs] = [{}]

    def get(self, keys: KeyMapping, key: Key) -> Key | None:
        """The target's key, if this transaction or an earlier one knows it."""
        for layer in self._layers:
            found = layer.get((keys.name, keys.forward), {}).get(key)
            if found is not None:
                return found
        return self._cache.get(keys, key)

    def add(self, keys: KeyMapping, pairs: dict[Key, Key]) -> None:
        """Remember pairs as long as the innermost savepoint lasts."""
        self._layers[-1].setdefault((keys.name, keys.forward), {}).update(pairs)

    def begin(self) -> None:
        """A savepoint begins."""
        self._layers.append({})

    def rolled_back(self) -> None:
        """The innermost savepoint is undone."""
        self._layers.pop()

    def released(self) -> None:
        """The innermost savepoint becomes part of what surrounds it."""
        for at, pairs in self._layers.pop().items():
            self._layers[-1].setdefault(at, {}).update(pairs)

    def committed(self) -> None:
        """The transaction has committed."""
        for layer in self._layers:
            self._cache.add(layer)


class KeyTranslator:
    """Translates within one target transaction.

    Args:
        wire: the transaction's session.
        source: opens (or returns) a session on the source; None where there is no map to look into.
        pending: what this transaction knows.

    """

    def __init__(self, wire: Wire, source: OpenWire | None, pending: PendingKeys) -> None:
        self._wire = wire
        self._source = source
        self._pending = pending

    async def translate(self, keys: KeyMapping, wanted: Collection[Key], *, create: bool) -> dict[Key, Key]:
        """See `ports.TargetTransaction.translate`."""
        found: dict[Key, Key] = {}
        missing: list[Key] = []
        for key in wanted:
            known = self._pending.get(keys, key)
            if known is None:
                missing.append(key)
            else:
                found[key] = known
        if not missing:
            return found
        stored = await _look_up(self._wire, keys, missing)
        self._pending.add(keys, stored)
        found |= stored
        missing = [key for key in missing if key not in found]
        if missing:
            found |= await self._of_source(keys, missing, create=create)
            missing = [key for key in missing if key not in found]
        if missing:
            found |= await self._make(keys, missing, create=create)
        return found

    async def _of_source(self, keys: KeyMapping, wanted: Sequence[Key], *, create: bool) -> dict[Key, Key]:
        """Pairs that the other feed has stored on the source; copied to the target's map with `create`."""
        if self._source is None:
            return {}
        wire = await self._source()
        # Asked each time, for the other feed may come any moment; an error would fill the server's log.
        (there,) = await wire.run(Command(_THERE, [], doing="looking for the other feed's key map"))
        if there.get_value(0, 0) != b"t":
            return {}
        pairs = await _look_up(wire, keys, wanted)
        if not pairs or not create:
            return pairs
        stored = await self._store(keys, pairs)
        self._pending.add(keys, stored)
        return stored

    async def _make(self, keys: KeyMapping, missing: Sequence[Key], *, create: bool) -> dict[Key, Key]:
        if keys.function is not None:
            made = {key: keys.function(key) for key in missing}
            if not create:
                return made
            stored = await self._store(keys, made)
        elif not create:
            return {}
        else:
            stored = await self._store_from_sequence(keys, missing)
        self._pending.add(keys, stored)
        return stored

    async def _store(self, keys: KeyMapping, pairs: dict[Key, Key]) -> dict[Key, Key]:
        """Store pairs, and return what the map then says: another lane may have been first with the same."""
        sources = list(pairs)
        widths = {len(key) for key in pairs.values()}
        if len(widths) != 1:
            raise _contradiction(keys, sources[0], "target keys of differing numbers of columns")
        old, upgraded = (sources, list(pairs.values())) if keys.forward else (list(pairs.values()), sources)
        insert = Command(
            _insert_text(len(old[0]), len(upgraded[0])),
            [encode_text_array((keys.name.encode(),)), *_columns(old), *_columns(upgraded)],
            binary=True,
            doing=f"storing keys of {keys.name}",
        )
        return await self._stored(keys, insert, sources)

    async def _store_from_sequence(self, keys: KeyMapping, missing: Sequence[Key]) -> dict[Key, Key]:
        if keys.sequence is None:
            raise ReplicatorError(
                f"keys of {keys.name} have neither a function nor a sequence in this direction",
                kind=ErrorKind.CONFIG,
                table=keys.name,
                hint="give KeyMap a `sequence`, so that rows born on the other side get a key",
            )
        insert = Command(
            _sequence_text(len(missing[0]), forward=keys.forward),
            [encode_text_array((keys.name.encode(), keys.sequence.encode())), *_columns(missing)],
            binary=True,
            doing=f"taking keys of {keys.name} from sequence {keys.sequence}",
        )
        return await self._stored(keys, insert, missing)

    async def _stored(self, keys: KeyMapping, insert: Command, sources: Sequence[Key]) -> dict[Key, Key]:
        _, result = await self._wire.run(insert, _look_up_command(keys, sources))
        found = _pairs(result, sources)
        for key in sources:
            if key not in found:
                raise _contradiction(keys, key, "a target key that the map already gives to another row")
        return found


async def _look_up(wire: Wire, keys: KeyMapping, wanted: Sequence[Key]) -> dict[Key, Key]:
    (result,) = await wire.run(_look_up_command(keys, wanted))
    return _pairs(result, wanted)


async def source_keys(wire: Wire, keys: KeyMapping, wanted: Sequence[Key]) -> dict[Key, Key]:
    """Target keys to source keys, by the target's map; those that it doesn't have are left out."""
    if not wanted:
        return {}
    (result,) = await wire.run(_look_up_command(keys, wanted, back=True))
    return _pairs(result, wanted)


def _look_up_command(keys: KeyMapping, wanted: Sequence[Key], *, back: bool = False) -> Command:
    return Command(
        _look_up_text(len(wanted[0]), by_old=keys.forward is not back),
        [encode_text_array((keys.name.encode(),)), *_columns(wanted)],
        binary=True,
        doing=f"looking up keys of {keys.name}",
    )


def _columns(keys: Sequence[Key]) -> list[bytes]:
    return [encode_text_array(column) for column in zip(*keys, strict=True)]


def _pairs(result: PGresult, wanted: Sequence[Key]) -> dict[Key, Key]:
    found = {}
    for row in range(result.ntuples):
        ordinal, key = result.get_value(row, 0), result.get_value(row, 1)
        assert ordinal is not None
        assert key is not None
        found[wanted[int.from_bytes(ordinal, "big") - 1]] = decode_text_array(key)
    return found


def _contradiction(keys: KeyMapping, key: Key, what: str) -> ReplicatorError:
    return ReplicatorError(
        f"the key of {keys.name} got {what}",
        kind=ErrorKind.TRANSFORM,
        table=keys.name,
        key=tuple(part.decode("utf-8", "replace") for part in key),
        hint="nothing was stored; KeyMap's function must give each key one of its own",
    )


# -- SQL, by the number of columns of a key ----------------------------------------------------------------------------
# A parameter of one element carries the names, so that all parameters have one format.


def _given(first: int, columns: int, prefix: str = "k") -> tuple[str, str]:
    """The arrays from `$first` on, and the names of their elements."""
    arrays = ", ".join(f"${first + at}::text[]" for at in range(columns))
    return arrays, ", ".join(f"{prefix}{at + 1}" for at in range(columns))


def _look_up_text(columns: int, *, by_old: bool) -> bytes:
    arrays, names = _given(2, columns)
    by, other = ("old_key", "upgraded_key") if by_old else ("upgraded_key", "old_key")
    # One search of the index for each key, whatever the plan: a join that was planned while the map was empty reads
    # all pairs of the mapping, and goes on doing so (30 ms a look-up at 5,000 pairs).
    one = f"SELECT m.{other} FROM replicator.key_map AS m WHERE m.mapping = ($1::text[])[1] AND m.{by} = ARRAY[{names}]"
    return (
        f"SELECT f.n, f.found FROM (SELECT u.n, ({one}) AS found "
        f"FROM unnest({arrays}) WITH ORDINALITY AS u({names}, n) OFFSET 0) AS f WHERE f.found IS NOT NULL"
    ).encode()


def _insert_text(old: int, upgraded: int) -> bytes:
    old_arrays, old_names = _given(2, old, "o")
    arrays, names = _given(2 + old, upgraded, "u")
    return (
        "INSERT INTO replicator.key_map (mapping, old_key, upgraded_key) "
        f"SELECT ($1::text[])[1], ARRAY[{old_names}], ARRAY[{names}] "
        f"FROM unnest({old_arrays}, {arrays}) AS g({old_names}, {names}) ON CONFLICT DO NOTHING"
    ).encode()


def _sequence_text(columns: int, *, forward: bool) -> bytes:
    arrays, names = _given(2, columns)
    made = "ARRAY[nextval(($1::text[])[2]::regclass)::text]"
    pair = f"ARRAY[{names}], {made}" if forward else f"{made}, ARRAY[{names}]"
    return (
        "INSERT INTO replicator.key_map (mapping, old_key, upgraded_key) "
        f"SELECT ($1::text[])[1], {pair} FROM unnest({arrays}) AS g({names}) ON CONFLICT DO NOTHING"
    ).encode()
