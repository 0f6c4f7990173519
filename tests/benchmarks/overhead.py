"""What a run folder costs a scan. Run: python tests/benchmarks/overhead.py [tiny]

The same scan of the bundled llama in memory and into a fresh run folder, in turn, one model loaded for both. What counts
is the ratio of the medians; it may be 1.05. Scores are asserted to be equal. `tiny` keeps nothing.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import workbench as wb

sys.path.insert(0, str(Path(__file__).parent))
import measure

REPETITIONS, TARGET = 9, 1.05
SCANS: dict[str, dict[str, Any]] = {
    "scan-heads, without its proof": {"proof": "none"},
    "scan-heads, shortest": {"proof": "none", "lengths": (128,), "rounds": 1, "until": None},
}
"""The target is of the default scan without its proof, which takes five times as long and writes little more; the shortest
shows what a folder costs at least."""


def compare(model: Any, options: dict[str, Any], repetitions: int) -> dict[str, Any]:
    """Seconds in memory and with a folder, ratio of their medians."""
    find = wb.analyses.retrieval_heads.scan
    with tempfile.TemporaryDirectory() as folder:

        def kept() -> Any:
            shutil.rmtree(folder)  # a folder that is there would only be read
            Path(folder).mkdir()
            return find(model, out=folder, **options)

        np.testing.assert_array_equal(find(model, **options).scores.values, kept().scores.values)
        memory, disk = measure.in_turn((lambda: find(model, **options), kept), repetitions, warm=True)
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    ratio = float(np.median(disk) / np.median(memory))
    return {
        "repetitions": repetitions, "memory_seconds": measure.spread(memory), "folder_seconds": measure.spread(disk),
        "ratio_of_medians": round(ratio, 4), "pairs": measure.spread([d / m for d, m in zip(disk, memory, strict=True)]),
        "folder_bytes": size,
    }  # fmt: skip


def main(tiny: bool) -> None:
    """Figures, kept as they come."""
    before, figures, model = measure.load(), [], wb.load("llama")
    for name, options in list(SCANS.items())[1 if tiny else 0 :]:
        figure = {"scan": name, **compare(model, options, measure.LEAST if tiny else REPETITIONS)}
        if "lengths" not in options:
            figure |= {"target": TARGET, "met": figure["ratio_of_medians"] <= TARGET}
        figures.append(figure)
        print(figure, flush=True)
        if not tiny:
            measure.keep("overhead", figures, before)


if __name__ == "__main__":
    main(sys.argv[1:] == ["tiny"])
