"""Samples that the adaptive stop saves, and at what price. Run: python tests/benchmarks/adaptive_stop.py

Replays: the samples of a published score file, or of a scan of the bundled llama, in 200 random orders. Each is stopped
by the rule; its list and its top 20 are then compared with those of all samples.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import measure
import published

import workbench as wb
from workbench.bootstrap import jaccard
from workbench.heads import HeadScores
from workbench.stopping import decide

UNTIL = (0.8, 0.9, 0.95)
REPLAYS = 200
THRESHOLD = 0.1
TOP = 20


def replay(name: str, scores: HeadScores, until: float) -> dict[str, Any]:
    """One file at one wanted agreement."""
    samples = scores.per_sample
    assert samples is not None
    whole, best = scores.values >= THRESHOLD, set(scores.top(TOP))
    used, agreement, overlap = [], [], []
    for seed in range(REPLAYS):
        order = np.random.default_rng(seed).permutation(scores.n)
        names = None if scores.groups is None else tuple(scores.groups[i] for i in order)
        found = decide(samples[order], names, THRESHOLD, until)
        if found.stop:
            part = HeadScores.from_samples(samples[order[: found.n_samples]], "part")
            used.append(found.n_samples)
            agreement.append(float(jaccard((part.values >= THRESHOLD).ravel(), whole.ravel())))
            overlap.append(len(best & set(part.top(TOP))) / TOP)
    stopped = len(used)
    return {
        "file": name, "until": until, "samples": scores.n, "replays": REPLAYS, "stopped": stopped,
        "samples_used": measure.spread(used) if stopped else None,
        "saved": round(1 - float(np.median(used)) / scores.n, 3) if stopped else 0.0,
        "claims_that_hold": round(float(np.mean(np.array(agreement) >= until)), 3) if stopped else None,
        "top_20_overlap": measure.spread(overlap) if stopped else None,
    }  # fmt: skip


def main() -> None:
    """All files at all agreements; prints a line each and keeps them."""
    before, figures = measure.load(), []
    scan = wb.analyses.retrieval_heads.scan("llama", until=None, proof="none", rounds=16)
    files = {"llama (bundled)": scan.scores, **{name: published.scores(name) for name in published.FILES}}
    for name, scores in files.items():
        for until in UNTIL:
            figures.append(replay(name, scores, until))
            print(figures[-1], flush=True)
    print(measure.keep("adaptive_stop", figures, before))


if __name__ == "__main__":
    main()
