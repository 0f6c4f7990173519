"""The simulator's time, and a decode against what is kept. Run: python tests/benchmarks/kv_policies.py [tiny]

The first figure decodes the same prompts with windows of growing size: seconds and keys, which should grow alike. The
second is the default question at 2k tokens on the bundled model, every prompt and every policy included, with the seconds
of its parts. Figures are kept as they come, so a run that is cut off keeps those it had (`complete` is then false). `tiny`
does everything at small sizes and keeps nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
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
KINDS = ("needle", "prose", "niah_multikey_1", "niah_multivalue")
TINY = {"context": 256, "samples": 2, "texts": 1, "rows": 1, "draws": 1, "budgets": (0.3,), "policy": ("duo", "snapkv")}


def whole(tiny: bool) -> dict[str, Any]:
    """8 policies × 6 budgets at 2k tokens: seconds in all, and by what was asked."""
    options: dict[str, Any] = TINY if tiny else {"context": 2048}
    with tempfile.TemporaryDirectory() as folder:
        result = wb.analyses.kv_policies.simulate("llama", published=False, out=folder, **options)
        units = [json.loads(line) for line in (Path(str(result.path)) / "progress.jsonl").read_text().splitlines()]
    parts: Counter[str] = Counter()
    for unit in units:
        asked = next(
            (kind for kind in KINDS if f"-{kind}-" in unit["unit"] and "answers" not in unit["unit"]), "before"
        )
        parts[asked] += unit["seconds"]
    points = [{n: p.summary()[n] for n in ("policy", "budget", "kept", "read", "recall", "kl")} for p in result.points]
    return {
        "what": "8 policies × 6 budgets, 2,048 tokens", "seconds": round(result.cost["seconds"], 1),
        "parts": {kind: round(seconds, 1) for kind, seconds in parts.items()}, "points": points,
        "decoding": result.decoding,
    }  # fmt: skip


def decoding(tiny: bool) -> dict[str, Any]:
    """Seconds of a decode by the share that is kept, and the correlation of both."""
    model, random = wb.load("llama"), torch.Generator().manual_seed(0)
    tokens, repeats = (300, 1) if tiny else (TOKENS, REPEATS)
    texts = torch.randint(5, 300, (ROWS, tokens + STEPS + 1), generator=random).tolist()
    prompts, _ = read_whole(model, Batch.of([Case(tuple(t), tokens, STEPS) for t in texts], model.device))
    setting = Setting(tuple(model.seam.layers), model.n_heads, model.n_kv_heads, tokens, 1.0, [])
    seconds, kept = [], []
    for share in SHARES:
        scheme = named("duo")[0].make(replace(setting, budget=share))
        taken = []
        for _ in range(repeats):
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


def main(tiny: bool = False) -> None:
    """Both figures, printed and kept as they come."""
    before, figures = measure.load(), [{"complete": False}]
    for work in (decoding, whole):
        figures.append(work(tiny))
        print({k: v for k, v in figures[-1].items() if k != "points"}, flush=True)
        figures[0]["complete"] = work is whole
        if not tiny:
            print(measure.keep("kv_policies", figures, before))


if __name__ == "__main__":
    main("tiny" in sys.argv)
