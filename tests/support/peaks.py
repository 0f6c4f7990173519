"""Peak resident memory of work in a process of its own, above the loaded model; run as a script by its tests.

`python peaks.py WORK MEMORY ROWS` prints the MiB above what the process held when the model was loaded and had run once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
KEEPING = {"calibrate"}
"""Work in pieces of so many sizes that freed blocks outweigh what is in use; see docs/determinism.md."""


def measured(work: str, memory: str, rows: int, threads: int = 1) -> float:
    """MiB of a piece of work under a budget, in a fresh process; of KEEPING without what glibc keeps of freed blocks."""
    command = [sys.executable, __file__, work, memory, str(rows)]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MALLOC_ARENA_MAX": "1"}
    env |= {"MALLOC_MMAP_THRESHOLD_": "65536"} if work in KEEPING else {}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise AssertionError(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


def resident(name: str = "VmRSS") -> float:
    """MiB by one line of the kernel's status of this process."""
    return int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1]) / 1024  # pyright: ignore


def works(model: Any, rows: int) -> dict[str, Any]:
    """Pieces of work by name: each takes a budget, and far more than it without."""
    import numpy as np
    import torch

    import workbench as wb
    from workbench import probes
    from workbench.heads import HeadScores
    from workbench.observation import observe
    from workbench.patching import activation_effects, edge_effects, kept_differences, path_effects
    from workbench.tasks.circuit_prompts import CircuitPrompt

    random = torch.Generator().manual_seed(0)
    n = min(512, model.context - 64)
    x = torch.randint(5, 200, (2, rows, n), generator=random)
    answers = torch.arange(2).expand(rows, 2) + 7
    prompts = [
        CircuitPrompt(tuple(a), tuple(b), (7, 8), {}, "one", str(i))
        for i, (a, b) in enumerate(zip(*x[..., :96].tolist(), strict=True))
    ]
    keep = torch.from_numpy(np.random.default_rng(0).random((12, model.n_layers, model.n_heads)) < 0.5)

    def simulated(memory: str | None) -> None:
        options: dict[str, Any] = {"context": 512, "texts": 0, "depths": (50.0,), "tasks": ("none",), "draws": 0}
        options |= {"policy": ("duo", "snapkv", "streaming:streaming"), "budgets": (0.5,), "published": False}
        model.memory = memory
        scores = HeadScores(np.random.default_rng(3).random((model.n_layers, model.n_heads)), "random")
        with tempfile.TemporaryDirectory() as folder:
            heads = str(wb.write_scores(scores, Path(folder) / "scores.json"))
            wb.analyses.kv_policies.simulate(model, heads=heads, samples=max(2, rows), batch=rows, **options)

    def seen(memory: str | None) -> None:
        wb.analyses.visual_heads.scan(model, samples=max(2, rows), choose=2, report=2, proof="none", memory=memory)

    def parked(memory: str | None) -> None:
        wb.analyses.attention_sinks.scan(model, samples=max(2, rows // 5), proof="none", memory=memory)

    def mapped(memory: str | None) -> None:
        options: dict[str, Any] = {"needles": 0, "repeats": 0, "ioi": 0, "scenes": 0, "memory": memory}
        wb.analyses.atlas.atlas(model, samples=max(2, rows // 5), sequences=2, **options)

    def calibrated(memory: str | None) -> None:
        wb.analyses.calibrate_heads.calibrate(model, samples=40, layers=(2,), batch=rows, memory=memory)

    few = [probes.received(), probes.entropy(), probes.top_keys(4, rows=(-1,))]
    return {
        "observe": lambda m: observe(model, x[0], few, memory=m),
        "paths": lambda m: path_effects(model, x[0], x[1], answers, [("v", 2, 0), ("q", 3, 1)], n - 9, memory=m),
        "logits": lambda m: path_effects(model, x[0], x[1], answers, memory=m),
        "activations": lambda m: activation_effects(model, x[0, :, :96], x[1, :, :96], answers, memory=m),
        "edges": lambda m: edge_effects(model, x[0, :, :64], x[1, :, :64], answers, 1, memory=m),
        "circuits": lambda m: kept_differences(model, prompts, keep, memory=m),
        "simulate": simulated,
        "visual": seen,
        "sinks": parked,
        "atlas": mapped,
        "calibrate": calibrated,
    }


def main() -> None:
    """Load, run once, let the kernel forget its peak, work, say the new one."""
    import torch

    import workbench as wb

    name, memory, rows = sys.argv[1:4]
    model = wb.load("llava" if name == "visual" else "llama")
    with torch.no_grad():
        model(torch.randint(5, min(200, int(model.bridge.cfg.d_vocab)), (1, 64)))
    work = works(model, 1)[name]
    work(None)  # what libraries take once
    work = works(model, int(rows))[name]
    Path("/proc/self/clear_refs").write_text("5")
    before = resident()
    work(None if memory == "none" else memory)
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main()
