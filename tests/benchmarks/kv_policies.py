"""The simulator's time, and a decode against what is kept. Run: python tests/benchmarks/kv_policies.py

The first figure is the default question at 2k tokens on the bundled model, every prompt and every policy included. The
second decodes the same prompts with windows of growing size: seconds and keys, which should grow alike.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import measure
import torch

import workbench as wb
from workbench.policies import named
from workbench.policies.setting import Setting
from workbench.simulation.cases import Batch, Case
from workbench.simulation.decoding import decode
from workbench.simulation.reading_prompts import read_whole

TOKENS, ROWS, STEPS, REPEATS = 3500, 4, 8, 5
SHARES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)


def whole() -> dict[str, Any]:
    """8 policies × 6 budgets at 2k tokens."""
    result = wb.analyses.kv_policies.simulate("llama", context=2048, published=False)
    points = [{n: p.summary()[n] for n in ("policy", "budget", "kept", "read", "recall", "kl")} for p in result.points]
    return {
        "what": "8 policies × 6 budgets, 2,048 tokens",
        "seconds": round(result.cost["seconds"], 1),
        "points": points,
    }


def decoding() -> dict[str, Any]:
    """Seconds of a decode by the share that is kept, and the correlation of both."""
    model, random = wb.load("llama"), torch.Generator().manual_seed(0)
    texts = torch.randint(5, 300, (ROWS, TOKENS + STEPS + 1), generator=random).tolist()
    prompts, _ = read_whole(model, Batch.of([Case(tuple(t), TOKENS, STEPS) for t in texts], model.device))
    setting = Setting(tuple(model.seam.layers), model.n_heads, model.n_kv_heads, TOKENS, 1.0, [])
    seconds, kept = [], []
    for share in SHARES:
        scheme = named("duo")[0].make(replace(setting, budget=share))
        taken = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            tally = decode(model, prompts, scheme)[1]
            taken.append(time.perf_counter() - start)
        seconds.append(float(np.median(taken)))
        kept.append(float(tally.kept.mean()))
    slope, base = np.polyfit(kept, seconds, 1)
    return {
        "what": f"decode of {ROWS} × {STEPS} tokens", "shares": SHARES, "entries": kept, "seconds": seconds,
        "base_seconds": float(base), "seconds_per_million_entries": float(slope) * 1e6,
        "r_squared": float(np.corrcoef(kept, seconds)[0, 1] ** 2),
    }  # fmt: skip


def main() -> None:
    """Both figures, printed and kept."""
    before, figures = measure.load(), []
    for work in (decoding, whole):
        figures.append(work())
        print({k: v for k, v in figures[-1].items() if k != "points"})
    print(measure.keep("kv_policies", figures, before))


if __name__ == "__main__":
    main()
