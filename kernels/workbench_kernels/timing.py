"""Pieces of work timed in turn, so that a busy machine slows all of them: the ratio is what counts."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

LEAST = 5
"""Repetitions below which no figure is kept."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest."""
    return {
        name: round(f(values), 4) for name, f in (("min", min), ("median", statistics.median), ("max", max))
    }  # fmt: skip


def paired(peer: Callable[[], Any], ours: Callable[[], Any], repetitions: int = LEAST) -> dict[str, Any]:
    """Seconds of both and their ratio, see `in_turn` and `against`."""
    return against(*in_turn((peer, ours), repetitions))


def in_turn(works: Sequence[Callable[[], Any]], repetitions: int = LEAST, warm: bool = False) -> list[list[float]]:
    """Seconds of each work: the first, the second, …, the first again, …

    All are run once before, uncounted, unless they are warm. Raises ValueError below LEAST repetitions.
    """
    if repetitions < LEAST:
        raise ValueError(f"{repetitions} repetitions: a ratio needs at least {LEAST}")
    for work in () if warm else works:
        work()
    times = [[seconds(work) for work in works] for _ in range(repetitions)]
    return [list(each) for each in zip(*times, strict=True)]


def against(peer: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """Seconds of two works and their ratio; each ratio is of two neighbours."""
    return {
        "repetitions": len(peer),
        "peer_seconds": spread(peer),
        "ours_seconds": spread(ours),
        "ratio": spread([p / o for p, o in zip(peer, ours, strict=True)]),
    }


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call; what it gave is let go within it, garbage from before is not counted."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
