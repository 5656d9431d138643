"""Looks at two databases that are written to, until a check is decided.

    pairs    the source's query, at S ▸ wait until S is applied ▸ the target's query ▸ the source's query again
    rows     wait until what is committed now is applied ▸ the target's query

A pair whose rows never stand still is looked at where the feed stands still, if it can: both queries at one position.

Every query has a snapshot of its own, as short as the query.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from replicator.engine.checks.answers import Answers, key_text, listed, text_of
from replicator.engine.checks.judges import AGREEING, PairJudge, PairLook, RowsJudge
from replicator.errors import ErrorKind, ReplicatorError

if TYPE_CHECKING:
    from replicator.checks import Answer, CheckReader, CheckSnapshot, SqlRule, StandStill
    from replicator.events import Values
    from replicator.tables import Column
    from replicator.verification import Reached

ROWS_MAX: Final = 10_000
"""Rows of a result that are compared; whoever has more of them aggregates."""
KEYS_MAX: Final = 20
"""Keys of wrong rows that a result names."""
AGREEING_WHOLE: Final = 2
"""Looks that must agree with the first one where the target shows whole transactions of the source only."""
LOOKS_MIN: Final = 12
QUIET_TRANSACTIONS: Final = 4
"""So many during a look are the feed's heartbeats and the look's own."""
STANDING_AT: Final = (2, 7, 12)
"""After how many looks that decided not all, the feed is asked to stand still."""
STANDING_LOOKS: Final = 3
PAUSE_INITIAL: Final = 0.02  # seconds
PAUSE_MAX: Final = 1.0


@dataclass(frozen=True)
class Found:
    """What looking came to; see `checks.CheckResult`."""

    ok: bool | None
    message: str = ""
    keys: tuple[str, ...] = ()
    position: int | None = None


@dataclass(frozen=True)
class Ends:
    """Both databases, and how long to look.

    Attributes:
        source, target: read by nobody else.
        reached: see `verification.Reached`.
        patience_seconds: what never stands still for so long is undecided.
        whole: the target shows whole transactions of the source only.
        stand: takes both at one position; None where the feed can't stand still.

    """

    source: CheckReader
    target: CheckReader
    reached: Reached
    patience_seconds: float = 20.0
    whole: bool = False
    stand: StandStill | None = None

    async def caught_up(self) -> int:
        """Wait until everything that is committed on the source now is applied; returns that position."""
        async with self.source.checking() as snapshot:
            lsn = snapshot.insert_lsn
        await self.reached(lsn)
        return lsn


@dataclass
class Turns:
    """Further looks: when to take one, and when to give up."""

    patience_seconds: float
    taken: int = 0
    _began: float = field(default_factory=time.monotonic)
    _pause: float = PAUSE_INITIAL

    async def another(self, *, enough: bool = False) -> bool:
        """Whether to look once more; waits a little, by chance, so as not to keep step with what is looked at.

        Args:
            enough: the least number of looks will do.

        """
        self.taken += 1
        if self.taken >= LOOKS_MIN and (enough or time.monotonic() - self._began > self.patience_seconds):
            return False
        await asyncio.sleep(self._pause * random.uniform(0.3, 1.7))  # noqa: S311
        self._pause = min(self._pause * 1.4, PAUSE_MAX)
        return True


# -- pairs -------------------------------------------------------------------------------------------------------------


async def look_at_pair(rule: SqlRule, ends: Ends) -> Found:
    """Whether both sides' queries agree."""
    assert rule.old is not None
    assert rule.upgraded is not None
    turns = Turns(ends.patience_seconds)
    answers: Answers | None = None
    judge = PairJudge()
    position, why = None, ""
    while True:
        async with ends.source.checking() as snapshot:
            before = await snapshot.ask(rule.old, ROWS_MAX, rule.timeout_seconds)
            (xmin, began), position = _bounds(snapshot), snapshot.insert_lsn
        await ends.reached(position)
        async with ends.target.checking() as snapshot:
            found = await snapshot.ask(rule.upgraded, ROWS_MAX, rule.timeout_seconds)
            held = await snapshot.deferred() > 0
        async with ends.source.checking() as snapshot:
            after = await snapshot.ask(rule.old, ROWS_MAX, rule.timeout_seconds)
            quiet = _bounds(snapshot)[1] - began <= QUIET_TRANSACTIONS
        barrier = await ends.source.barrier()
        if answers is None:
            refuse_shapes(before.columns, found.columns)
            answers = Answers(before, found, rule.tolerance)
            judge = PairJudge(answers.near)
        _refuse_size(before, found, after)
        one, other, again = (answers.grouped(each) for each in (before, found, after))
        judge.see(PairLook(one, other, again, xmin, barrier, held, quiet))
        if judge.undecided and ends.stand is not None and turns.taken + 1 in STANDING_AT:
            stood, why = await _stand(rule, ends.stand, answers, judge)
            position = stood or position
        # What only moves can't make a rule right that is proven wrong.
        enough = bool(judge.wrong) and not judge.suspects
        if not judge.undecided or not await turns.another(enough=enough):
            return _pair_result(rule, judge, answers, position, why)


def _bounds(snapshot: CheckSnapshot) -> tuple[int, int]:
    """A snapshot's xmin and xmax."""
    xmin, xmax, *_ = snapshot.text.split(":")
    return int(xmin), int(xmax)


async def _stand(rule: SqlRule, stand: StandStill, answers: Answers, judge: PairJudge) -> tuple[int | None, str]:
    """Decide what is open at one position; returns that, or why there is none."""
    assert rule.old is not None
    assert rule.upgraded is not None
    position = None
    for _ in range(STANDING_LOOKS):
        async with stand() as still:
            if isinstance(still, str):
                return position, still
            asking = (
                still.source.ask(rule.old, ROWS_MAX, rule.timeout_seconds),
                still.target.ask(rule.upgraded, ROWS_MAX, rule.timeout_seconds),
            )
            old, upgraded = _answered(await asyncio.gather(*asking, return_exceptions=True))
            held = await still.target.deferred() > 0
            position = still.position
        _refuse_size(old, upgraded)
        if not held:
            judge.prove(answers.grouped(old), answers.grouped(upgraded))
        if not judge.undecided:
            break
    return position, ""


def _answered(answers: Sequence[Answer | BaseException]) -> list[Answer]:
    """What was asked at once, when all have ended."""
    for one in answers:
        if isinstance(one, BaseException):
            raise one
    return [one for one in answers if not isinstance(one, BaseException)]


def refuse_shapes(*sides: Sequence[Column]) -> None:
    """Results of two queries are compared column by column.

    Raises:
        ReplicatorError: CONFIG, when they have different numbers of them.

    """
    counts = [len(columns) for columns in sides]
    if len(set(counts)) > 1:
        raise ReplicatorError(
            f"its queries don't fit: {counts[0]} columns of old, {counts[1]} of upgraded", kind=ErrorKind.CONFIG
        )


def _refuse_size(*answers: Answer) -> None:
    if any(answer.more for answer in answers):
        raise ReplicatorError(
            f"a query returns more than {ROWS_MAX:,} rows; let it aggregate them",
            kind=ErrorKind.CONFIG,
        )


def _pair_result(rule: SqlRule, judge: PairJudge, answers: Answers, position: int, why: str) -> Found:
    total = judge.agreed + len(judge.wrong) + len(judge.undecided)
    wrong = {answers.label(*groups): groups for groups in judge.wrong.values()}
    if wrong:
        words = []
        for label, (old, upgraded) in wrong.items():
            how = _how(answers, old, upgraded) if answers.keyed else ""
            if rule.show:
                how = f"{how}: " * bool(how) + f"old {answers.shown(old)}, upgraded {answers.shown(upgraded)}"
            words.append(f"{label} ({how})" if answers.keyed else how)
        if not answers.keyed and not rule.show:
            return Found(ok=False, message="the two values differ (show: on shows them)", position=position)
        named = listed(words, len(judge.wrong), KEYS_MAX)
        message = f"{len(judge.wrong):,} of {total:,} rows differ: {named}" if answers.keyed else f"differs: {named}"
        message += f"; {len(judge.undecided):,} never stood still" if judge.undecided else ""
        return Found(
            ok=False, message=message, keys=tuple(wrong)[:KEYS_MAX] if answers.keyed else (), position=position
        )
    if judge.undecided:
        message = (
            f"{len(judge.undecided):,} of {total:,} rows never stood still" if answers.keyed else "never stood still"
        )
        message += f", nor could the feed: {why}" if why else ""
        return Found(ok=None, message=message, position=position)
    return Found(ok=True, message=f"{total:,} rows agree" if answers.keyed else "agrees", position=position)


def _how(answers: Answers, old: Counter[Hashable], upgraded: Counter[Hashable]) -> str:
    if not upgraded:
        return "missing in upgraded"
    if not old:
        return "only in upgraded"
    return ", ".join(answers.different(old, upgraded)) or f"{old.total()} rows in old, {upgraded.total()} in upgraded"


# -- rows that ought not to be there -----------------------------------------------------------------------------------


async def look_at_source(rule: SqlRule, ends: Ends) -> Found:
    """Whether the source's query returns no row. It shows whole transactions: one look is enough."""
    assert rule.old is not None
    async with ends.source.checking() as snapshot:
        answer = await snapshot.ask(rule.old, ROWS_MAX, rule.timeout_seconds)
    return _rows_result(rule, answer, Counter(map(_hashable, answer.rows)), None)


async def look_at_target(rule: SqlRule, ends: Ends) -> Found:
    """Whether the target's query returns no row."""
    assert rule.upgraded is not None
    newest: Answer | None = None

    async def look() -> Rows:
        nonlocal newest
        assert rule.upgraded is not None
        async with ends.target.checking() as snapshot:
            newest = await snapshot.ask(rule.upgraded, ROWS_MAX, rule.timeout_seconds)
            return Rows(Counter(map(_hashable, newest.rows)), more=newest.more, held=await snapshot.deferred() > 0)

    ok, rows, position = await confirmed(look, ends)
    assert newest is not None
    if ok is None:
        return Found(ok=None, message="its rows came and went, and never stood still", position=position)
    return _rows_result(rule, newest, rows, position)


@dataclass(frozen=True)
class Rows:
    """What one look found.

    Attributes:
        rows: that ought not to be there.
        more: there are more of them.
        held: the feed knows that it has not written everything yet.

    """

    rows: Counter[Hashable]
    more: bool = False
    held: bool = False


async def confirmed(look: Callable[[], Awaitable[Rows]], ends: Ends) -> tuple[bool | None, Counter[Hashable], int]:
    """Look until it is known whether rows are there that ought not to be.

    Returns:
        Whether there are none (None: unknown), those that are, and the position that was applied before the first look.

    """
    judge = RowsJudge(AGREEING_WHOLE if ends.whole else AGREEING)
    turns = Turns(ends.patience_seconds)
    first = None
    more = False
    while True:
        position = await ends.caught_up()
        first = position if first is None else first
        found = await look()
        more = more or found.more
        if not found.held or not found.rows:
            judge.see(found.rows)
            if judge.decided:
                ok = None if more and not judge.rows else not judge.rows
                return ok, judge.rows, first
        if not await turns.another():
            return None, Counter(), first


def _rows_result(rule: SqlRule, answer: Answer, rows: Counter[Hashable], position: int | None) -> Found:
    if not rows:
        return Found(ok=True, message="no row", position=position)
    wrong: list[Values] = [row for row in answer.rows if rows[_hashable(row)]]
    total = rows.total()
    keys = [text_of(row[0]) for row in wrong]
    words = [key_text(row) for row in wrong] if rule.show else keys
    atleast = "at least " if answer.more else ""
    message = f"{atleast}{total:,} row{'s' * (total != 1)}: {answer.columns[0].name} {listed(words, total, KEYS_MAX)}"
    return Found(ok=False, message=message, keys=tuple(keys[:KEYS_MAX]), position=position)


def _hashable(row: Values) -> Hashable:
    return tuple(row)
