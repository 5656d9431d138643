"""Keys that share columns are translated from what the source gave, or refused."""

from collections.abc import Collection
from typing import Any, cast

import pytest

from replicator.engine.translation import translated
from replicator.errors import ErrorKind, ReplicatorError
from replicator.events import Key
from replicator.mapping import KeyMapping, Mapping, Outcome, Reference, Side
from replicator.planner import translations
from replicator.ports import TargetTransaction
from replicator.writes import Translation, Write, WriteAction
from tests.shapes import table

SEATS = table("public.seats", "hall text pk", "nr text pk", "beside text null", "owner text null", "third text null")
SIDE = Side(SEATS, ("hall", "nr"))
COLUMNS = ("hall", "nr", "beside")
KEYS = KeyMapping("public.seats", forward=True)
OTHER = KeyMapping("public.owners", forward=True)


class Keys:
    """A target transaction as far as keys go: `h` becomes H; what is listed is known."""

    def __init__(self, *absent: Key) -> None:
        self.absent = absent

    async def translate(self, keys: KeyMapping, wanted: Collection[Key], *, create: bool) -> dict[Key, Key]:
        """Upper case, with the mapping's initial behind the last column."""
        initial = keys.name[7:8].encode()
        return {
            key: (*(part.upper() for part in key[:-1]), key[-1].upper() + initial)
            for key in wanted
            if create or key not in self.absent
        }


def mapping(*references: Reference, key_map: KeyMapping | None = None) -> Mapping:
    return Mapping(
        "public.seats", (SIDE,), (SIDE,), function=lambda _: Outcome((), []), key_map=key_map, references=references
    )


def write(one: Mapping, columns: tuple[str, ...], *rows: Any, action: WriteAction = WriteAction.UPSERT) -> Write:
    return Write(SEATS, action, columns, SIDE.key, rows, translations=translations(one, SIDE, columns))


async def test_a_key_and_a_reference_share_a_column() -> None:
    """Both are looked up by what the source gave, and a NULL is no reference."""
    one = mapping(Reference(("hall", "beside"), KEYS), key_map=KEYS)

    made = await translated(
        cast("TargetTransaction", Keys()), write(one, COLUMNS, (b"a", b"x", b"y"), (b"a", b"z", None))
    )

    assert [(b"A", b"Xs", b"Ys"), (b"A", b"Zs", None)] == made.rows


async def test_keys_that_disagree_are_refused() -> None:
    """A column can't have two values: the error names it, and who is referred to."""
    one = mapping(Reference(("owner", "beside"), OTHER), Reference(("third", "owner"), KEYS))
    columns = ("beside", "owner", "third")

    with pytest.raises(ReplicatorError, match=r"column owner .* refers to public\.seats") as caught:
        await translated(cast("TargetTransaction", Keys()), write(one, columns, (b"x", b"o", b"t")))

    assert (ErrorKind.TRANSFORM, "owner") == (caught.value.kind, caught.value.column)


async def test_a_key_that_is_not_translated_stays() -> None:
    """A reference may not change a part of the row's own key: a delete of the row has nothing but that key."""
    one = mapping(Reference(("hall", "beside"), KEYS))

    deleted = write(one, SIDE.key, (b"a", b"x"), action=WriteAction.DELETE)
    assert deleted is await translated(cast("TargetTransaction", Keys()), deleted)
    made = await translated(cast("TargetTransaction", Keys()), write(one, COLUMNS, (b"A", b"x", b"y")))
    assert [(b"A", b"x", b"Ys")] == made.rows
    with pytest.raises(ReplicatorError, match="column hall"):
        await translated(cast("TargetTransaction", Keys()), write(one, COLUMNS, (b"a", b"x", b"y")))


async def test_a_delete_of_what_was_never_there_is_left_out() -> None:
    """Where only a sequence could give the key, there is none, and no row."""
    one = mapping(Reference(("nr",), OTHER))
    gone = write(one, SIDE.key, (b"a", b"x"), (b"a", b"y"), action=WriteAction.DELETE)

    made = await translated(cast("TargetTransaction", Keys((b"y",))), gone)

    assert [(b"a", b"Xo")] == made.rows


def test_scopes_are_translated_like_rows() -> None:
    """A reference that lies within the aggregate's key is translated where the key alone is given."""
    assert (Translation((1,), OTHER),) == translations(mapping(Reference(("nr",), OTHER)), SIDE, SIDE.key)
