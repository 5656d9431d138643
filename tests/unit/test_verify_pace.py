"""How fast verification reads, and when it brakes."""

import asyncio
import time
from collections.abc import Mapping

from replicator.engine.verify.pace import LEARNT, SPACING, UNLIMITED_FLOOR, Brake, Latencies, Pace, Signals


async def spend(pace: Pace, parts: int, rows: int) -> float:
    begun = time.monotonic()
    await asyncio.gather(*(pace.spend(rows) for _ in range(parts)))
    return time.monotonic() - begun


async def test_rows_a_second_are_bounded_for_all_that_share_it() -> None:
    """Whoever reads waits for what all have read."""
    pace = Pace(10_000)

    assert 0.2 <= await spend(pace, 4, 500)
    assert 2_000 == pace.rows


async def test_without_a_limit_nobody_waits() -> None:
    """`null` is unlimited."""
    assert await spend(Pace(None), 4, 10**9) < 5


def learnt(seconds: float = 0.1, kind: str = "chunk") -> Latencies:
    """After as many seconds as it takes to know what is usual."""
    latencies = Latencies()
    for now in range(LEARNT):
        latencies.add(kind, seconds)
        latencies.ratio(now)
    return latencies


def ratio_of(latencies: Latencies, samples: Mapping[str, float], now: float = 100.0) -> float | None:
    for kind, seconds in samples.items():
        latencies.add(kind, seconds)
    return latencies.ratio(now)


def test_a_statement_is_compared_with_its_kind() -> None:
    """What is slow by nature is not slow: only against statements of its own kind, once those are known."""
    latencies = learnt()

    assert ratio_of(latencies, {"another": 9.0}) is None
    assert 0.9 < (ratio_of(latencies, {"chunk": 0.1}) or 0) < 1.1
    assert 2.9 < (ratio_of(latencies, {"chunk": 0.3}) or 0) < 3.1
    assert latencies.ratio(101.0) is None, "nothing was read since"


def test_milliseconds_are_no_slowness() -> None:
    """A statement of a millisecond that takes five is none that anybody waits for."""
    ratio = ratio_of(learnt(0.001), {"chunk": 0.005})

    assert ratio is not None
    assert ratio <= 1


def test_what_this_process_is_late_is_not_the_databases() -> None:
    """Time that a statement's answer waited for this process is taken out; if that is long, it is said to be ours."""
    latencies = learnt()
    latencies.add("chunk", 0.5)
    ratio = latencies.ratio(100.0, late=0.2)
    brake = Brake(10_000, lag_max=2)
    brake.decide(0, Signals({"old": ratio}, late=0.3))

    assert ratio is not None
    assert ratio < 1.1
    assert ["this process itself is busy (0.3 s late)"] == list(brake.reasons)


def test_a_moment_is_not_learnt_and_what_lasts_is() -> None:
    """A minute of slowness is slow to its end; what stays so is usual after some minutes, and then quick is quick."""
    latencies = learnt()
    ratios = [ratio_of(latencies, {"chunk": 0.4}, now) or 0 for now in range(10, 70)]
    assert min(ratios) > 3
    later = [ratio_of(latencies, {"chunk": 0.4}, now) or 0 for now in range(70, 70 + int(70 * SPACING))]

    assert later[-1] <= 1.1


def test_the_rate_is_halved_while_a_database_is_slow_and_comes_back_slowly() -> None:
    """Multiplicative decrease down to a floor, additive increase up to what the connector says; it says why."""
    brake = Brake(10_000, lag_max=2)
    slow, quick = Signals({"old": 3.2, "upgraded": 1.0}), Signals({"old": 1.0, "upgraded": None})
    falling = [brake.decide(now, slow) for now in range(20)]

    assert [5_000, 2_500, 1_250] == falling[:3]
    assert 200 == falling[-1]
    assert ["old answers 3.2 times slower than usual"] == list(brake.reasons)
    rising = [brake.decide(now, quick) for now in range(20, 45)]
    assert [700, 1_200] == rising[:2]
    assert 10_000 == rising[-1]
    assert not brake.braked
    assert not brake.reasons


def test_a_lagging_feed_brakes() -> None:
    """More lag than the connector bears, and more than is usual: whichever end it comes from."""
    brake = Brake(10_000, lag_max=2)
    for now in range(10):
        assert 10_000 == brake.decide(now, Signals({}, lag=0.5))

    assert 5_000 == brake.decide(10, Signals({}, lag=3.0))
    assert ("the feed is 3.0 s behind",) == brake.reasons


def test_a_lag_that_is_always_there_does_not_brake() -> None:
    """By way of Kafka a feed may be further behind than a cutover allows, all the time."""
    brake = Brake(10_000, lag_max=2)
    for now in range(60):
        brake.decide(now, Signals({}, lag=5.0))

    assert not brake.braked


def test_without_a_limit_it_brakes_from_what_it_reads() -> None:
    """An unlimited run goes to half of what it has read, never below the floor, and back to no limit."""
    brake = Brake(None, lag_max=2)
    assert brake.decide(0, Signals({"old": 1.0}, rows=80_000)) is None
    assert 40_000 == brake.decide(1, Signals({"old": 5.0}, rows=80_000))
    for now in range(2, 12):
        brake.decide(now, Signals({"old": 5.0}, rows=40_000))
    assert brake.rate == UNLIMITED_FLOOR
    for now in range(12, 40):
        brake.decide(now, Signals({"old": 1.0}, rows=1_000))

    assert brake.rate is None
    assert not brake.braked
