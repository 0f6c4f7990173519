"""Two pieces of work timed in turn, so that a busy machine slows both: the ratio is what counts."""

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
    """Seconds of both and their ratio: peer, ours, peer, ours, …; each ratio is of two neighbours.

    Both are run once before, uncounted. Raises ValueError below LEAST repetitions.
    """
    if repetitions < LEAST:
        raise ValueError(f"{repetitions} repetitions: a ratio needs at least {LEAST}")
    peer()
    ours()
    times = [(seconds(peer), seconds(ours)) for _ in range(repetitions)]
    return {
        "repetitions": repetitions,
        "peer_seconds": spread([p for p, _ in times]),
        "ours_seconds": spread([o for _, o in times]),
        "ratio": spread([p / o for p, o in times]),
    }


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call; what it gave is let go within it, garbage from before is not counted."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
