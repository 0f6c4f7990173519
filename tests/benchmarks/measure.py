"""What every benchmark shares: the machine, paired repetitions, the file that keeps the figures."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from workbench.versions import versions

RESULTS = Path(__file__).parent / "results"
LEAST = 5
"""Repetitions below which no figure is kept."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest."""
    return {
        name: round(f(values), 4) for name, f in (("min", min), ("median", statistics.median), ("max", max))
    }  # fmt: skip


def paired(peer: Callable[[], Any], ours: Callable[[], Any], repetitions: int = LEAST) -> dict[str, Any]:
    """Seconds of both and their ratio: peer, ours, peer, ours, …; each ratio is of two neighbours.

    Both are run once before, uncounted.
    """
    assert repetitions >= LEAST
    peer(), ours()
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


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "memory_gib": round(memory, 1), "threads": torch.get_num_threads(),
    }  # fmt: skip


def load() -> list[float]:
    """Load averages of the last 1, 5 and 15 minutes: a busy machine shows."""
    return [round(x, 2) for x in os.getloadavg()]


def keep(name: str, figures: list[dict[str, Any]], load_before: list[float]) -> Path:
    """Write the figures of one script with the machine, the date and the versions."""
    record = {
        "benchmark": name, "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(),
        "versions": versions(), "load_average": {"before": load_before, "after": load()}, "figures": figures,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path
