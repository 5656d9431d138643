"""The garbage collector, for commands through which rows pass."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Tell the garbage collector what this process is like: a fifth of a row's CPU time goes into looking for cycles.

    What was loaded so far stays for good. Rows on their way are tuples by the ten thousand, without a cycle among them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
