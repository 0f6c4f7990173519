"""Random head maps and a page with every block, for the browser tests."""

from __future__ import annotations

import numpy as np
from sample_circuits import two_circuits

from workbench.views import (
    AttentionPatterns,
    CircuitGraph,
    Command,
    Curves,
    Download,
    Downloads,
    HeadMap,
    Heatmap,
    Page,
    Prose,
    Section,
    Series,
    Table,
    TokenView,
)

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover=alert(1) x="',
    "a & b",
    "\u2028",
    "<s>",
]


def head_map(layers=4, heads=16, count=12, seed=0):
    rng = np.random.default_rng(seed)
    samples = rng.random((count, layers, heads)) ** 3
    samples[:, 0, 1] = np.nan
    samples[3, 1, 1] = np.nan
    scores = np.full((layers, heads), np.nan)
    scored = ~np.isnan(samples).all(0)
    scores[scored] = np.nanmean(samples[:, scored], axis=0)
    labels = [f"sample {chr(97 + i % 26)}{i}" for i in range(count)]
    low, high = scores - 0.05, scores + 0.07
    block = HeadMap(
        scores, "Scores", "n as given.", samples=samples, sample_labels=labels, low=low, high=high, kv_heads=heads // 4,
        marked=[(1, 3)], details={(1, 3): {"induction": 0.25}},
    )  # fmt: skip
    return block, scores, samples, labels


def full_page(layers=4, heads=16, count=12, words=600):
    rng = np.random.default_rng(7)
    block, scores, _, _ = head_map(layers, heads, count)
    top = [divmod(int(i), heads) for i in np.argsort(-np.nan_to_num(scores, nan=-1.0), axis=None)[:30]]
    k = [1, 2, 3, 4, 6]
    lines = [Series(name, k, rng.random(5), rng.random(5) * 0.1, 0.9 + rng.random(5) * 0.1) for name in "abc"]
    tokens = [*HOSTILE, *(f"word{i}" for i in range(words - len(HOSTILE)))]
    weights = rng.dirichlet(np.full(words, 0.02), (3, 2))
    names = [f"L{i}H{j}" for i, j in top]
    rows = [(i + 1, name, (0.5, 0.4, 0.6), 12) for i, name in enumerate(names)]
    few = rng.random((3, 6, 6))
    return Page("A page", "of all blocks", [
        Section("Finding", [Prose(("Text.",), {"a fact with a long name": "value " * 9}, "Verdict.", "good")]),
        Section("Heads", [block, Table(("rank", "head", "score", "n"), rows, "n = 12", "Top", heads="head", limit=10)]),
        Section("Proof", [
            Curves(lines, "K", "recall", "It falls", "Curves", "n = 16", marks=[(2, "half")]),
            Heatmap(rng.random((5, 7)), list("abcde"), [str(2**i) for i in range(7)], "depth", "length", "Recall", "n"),
        ]),
        Section("Sample", [
            TokenView.from_dense(tokens, names[:3], ["x", "y"], weights, spans={"needle": (40, 50)}, title="Tokens"),
            AttentionPatterns(HOSTILE, few, names[:3], "Maps", "n = 1"),
        ]),
        Section("Circuits", [
            CircuitGraph(two_circuits()[:1], title="A circuit", caption="n = 32"),
            CircuitGraph(two_circuits(), title="Reuse", caption="n = 32"),
        ]),
        Section("Again", [Command("workbench scan-heads " * 12), Downloads((Download("scores.json", '{"a": "é"}'),))]),
    ])  # fmt: skip
