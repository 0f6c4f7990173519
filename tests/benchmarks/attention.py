"""Attention with statistics and edits against its peers, kept. Run: python tests/benchmarks/attention.py [long]

First asserts equal results, then times both sides in turn; memory is measured in processes of their own. `long` adds
16k tokens (ours alone). Figures are kept as they come, so a run that is stopped leaves those it had (`complete` is then
false). Sink finding is in calibration.py and the whole model in whole_model.py; `workbench bench` runs the same table,
without the edits that have no goal, on a user's machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import measure
import torch
from workbench_kernels import benchmark
from workbench_kernels.timing import seconds, spread

LENGTHS = (2048, 4096, 8192)


def check(n: int) -> None:
    """Ours equals the eager pattern's reductions."""
    layers, work = benchmark.inputs(n), benchmark.works(n)[0]
    assert work.reductions is not None
    for (z, stats), (out, received, top, mass) in zip(
        benchmark.ours(layers, work), benchmark.eager(layers, work.reductions), strict=True
    ):
        torch.testing.assert_close(z, out, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(stats.received, received, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(stats.top_values, top, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(stats.mass, mass, atol=1e-5, rtol=1e-4)


def memory(n: int) -> list[dict[str, Any]]:
    """Growth of the peak resident size, each in a process of its own."""
    out = []
    for who in ("sdpa", "ours", "eager"):
        words = [sys.executable, __file__, "memory", who, str(n)]
        mib = float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        out.append({"tokens": n, "work": "memory: received, 64 rows, masses", "who": who, "mib": round(mib, 1)})
        print(out[-1], flush=True)
    return out


@torch.no_grad()
def one_memory(who: str, n: int) -> None:
    """Print the growth in MiB."""
    layers, work = benchmark.inputs(n), benchmark.works(n)[0]
    assert work.reductions is not None
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on, not that of the imports
    before = peak_kib()
    if who == "sdpa":
        benchmark.sdpa(layers)
    elif who == "ours":
        benchmark.ours(layers, work)
    else:
        benchmark.eager(layers, work.reductions)
    print((peak_kib() - before) / 1024)


def peak_kib() -> int:
    """The peak resident size since it was last reset (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@torch.no_grad()
def main() -> None:
    """The table, kept."""
    before = measure.load()
    figures: list[dict[str, Any]] = [{"complete": False}]

    def took(*rows: dict[str, Any]) -> Path:
        figures.extend(rows)
        return measure.keep("attention", figures, before)

    for n in LENGTHS:
        check(n)
        for row in benchmark.table(n, 7 if n < 8192 else 5, more=True):
            took(row)
            print({k: row[k] for k in ("tokens", "work", "peer", "times", "target", "met")}, flush=True)
    if "long" in sys.argv:
        layers, work = benchmark.inputs(16384), benchmark.works(16384)[0]
        times = spread([seconds(lambda: benchmark.ours(layers, work)) for _ in range(5)])
        took({"tokens": 16384, "work": work.name, "ours_seconds": times})
    took(*memory(8192))
    figures[0]["complete"] = True
    print(took())


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        one_memory(sys.argv[2], int(sys.argv[3]))
    else:
        main()
