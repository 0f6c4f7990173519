"""What every benchmark shares: the machine, and the file that keeps the figures."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import benchmark_tables
import torch
from workbench_kernels.timing import LEAST, against, in_turn, paired, spread

from workbench.versions import versions

__all__ = ["LEAST", "against", "in_turn", "keep", "load", "machine", "paired", "spread"]

RESULTS = Path(__file__).parent / "results"


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


def keep(
    name: str, figures: list[dict[str, Any]], load_before: list[float], also: Mapping[str, Any] | None = None
) -> Path:
    """Write the figures of one script with the machine, the date and the versions; docs/benchmarks.md shows them.

    also: what the script needs to go on from there.
    """
    record = {
        "benchmark": name, "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(),
        "versions": versions(), "load_average": {"before": load_before, "after": load()}, "figures": figures,
        **(also or {}),
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    benchmark_tables.write()
    return path
