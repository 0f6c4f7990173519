"""Many small scans in one process: whether memory, file handles or threads grow. Run: python tests/benchmarks/soak.py [SCANS]

Each scan loads the bundled llama anew, asks a needle and writes a run folder, which is then removed; every tenth is
asked to fail. After a tenth of the scans, the least and the greatest resident size must lie within ± 5 % of their median,
and handles and threads must be as many as then.
"""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import workbench as wb
from workbench.errors import BadInput

sys.path.insert(0, str(Path(__file__).parent))
import measure

SCANS, FLAT = 1000, 0.05


def held() -> dict[str, float]:
    """Resident MiB, open files, threads of Python and of the system. Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident_mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20, "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(), "tasks": len(os.listdir("/proc/self/task")),
    }  # fmt: skip


def scan(out: str, seed: int) -> None:
    """One small scan with its own question and folder; leaves nothing on the disk."""
    options = {"lengths": (128,), "depths": (50,), "rounds": 1, "until": None, "proof": "none", "seed": seed}
    wb.analyses.retrieval_heads.scan("llama", out=out, **options)
    if seed % 10 == 9:  # what fails must let go, too
        try:
            wb.analyses.retrieval_heads.scan("llama", out=out, **options, haystack="no-such-file")
            raise AssertionError("a scan without its haystack ended well")
        except BadInput:
            pass
    for folder in Path(out).iterdir():
        shutil.rmtree(folder)


def soak(scans: int) -> list[dict[str, float]]:
    """What is held after each scan, with its seconds."""
    found = []
    with tempfile.TemporaryDirectory() as out:
        for seed in range(scans):
            start = time.perf_counter()
            scan(out, seed)
            seconds = time.perf_counter() - start
            gc.collect()
            found.append({**held(), "seconds": seconds})
    return found


def judged(found: list[dict[str, float]]) -> dict[str, Any]:
    """Growth after the first tenth."""
    warm = found[len(found) // 10 :]
    sizes = [x["resident_mib"] for x in warm]
    middle, tenth = statistics.median(sizes), max(1, len(warm) // 10)
    first, last = (statistics.median(part) for part in (sizes[:tenth], sizes[-tenth:]))
    grown = {f"more_{name}": max(x[name] for x in warm) - warm[0][name] for name in ("files", "threads", "tasks")}
    return {
        "scans": len(found), "resident_mib": measure.spread(sizes), "first_tenth_mib": round(first, 2),
        "last_tenth_mib": round(last, 2), "largest_deviation": max(abs(x / middle - 1) for x in sizes), **grown,
        "seconds_a_scan": measure.spread([x["seconds"] for x in found]),
        "target": FLAT, "met": all(abs(x / middle - 1) <= FLAT for x in sizes) and not any(grown.values()),
    }  # fmt: skip


def main(words: list[str]) -> int:
    """Measure, keep, judge."""
    before, scans = measure.load(), int(words[0]) if words else SCANS
    found = soak(scans)
    figures = judged(found)
    every = max(1, scans // 100)
    course = [{"scan": i, **{k: round(v, 2) for k, v in found[i].items()}} for i in range(0, scans, every)]
    print(figures)
    if scans >= SCANS:
        print(measure.keep("soak", [figures, *course], before))
    return 0 if figures["met"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
