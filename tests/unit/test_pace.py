"""How many events are taken at once, where transforms are slow."""

from replicator.engine.pace import Pace


def test_a_slow_function_gets_small_batches() -> None:
    """About a second of it, at once; and larger ones by and by, when it is fast."""
    pace = Pace()

    assert 1_000 == pace.rows(10_000)
    pace.saw(1_000, 10.0)
    assert 100 == pace.rows(10_000)
    pace.saw(1, 60.0)
    assert 1 == pace.rows(10_000)
    for _ in range(30):
        pace.saw(10, 0.0)
    assert 10_000 == pace.rows(10_000)


def test_a_batch_without_events_teaches_nothing() -> None:
    """Idle progress says nothing about the functions."""
    pace = Pace()
    pace.saw(0, 1.0)

    assert 1_000 == pace.rows(10_000)
