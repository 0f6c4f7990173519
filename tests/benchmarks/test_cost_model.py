"""The cost model counts what a model does, and its fit gives back rates that are known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from .cost_model import LARGE, Cluster, Work, forward, memory, needles, network, seconds, sinks, tables
from .scaling import TERMS, columns, config_of, geometry, judged
from .scaling import tables as measured

ROOT = Path(__file__).parents[2]


def test_the_flops_of_a_forward_are_those_that_torch_counts():
    """Of Hugging Face's eager model, which computes every pair, also those that are masked."""
    g, n = geometry(128, 3), 40
    model = AutoModelForCausalLM.from_config(config_of(g, 64), attn_implementation="eager").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randint(3, g.vocabulary, (1, n)))
    # a product of two batches is attention's, the others have a weight
    counts = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    ours = forward(g, n, kept=n)
    assert ours.linear + ours.logits == counts["aten.mm"]
    assert ours.attention == counts["aten.bmm"] * (n + 1) / (2 * n)


def test_a_large_model_has_its_known_size():
    assert LARGE.parameters == pytest.approx(70.55e9, rel=1e-3)
    assert LARGE.kv_bytes == 320 * 1024  # 2 × 80 layers × 8 heads × 128 × 2 bytes


def test_forwards_add_up_however_they_are_cut():
    whole, parts = forward(LARGE, 1000), forward(LARGE, 300) + forward(LARGE, 700, past=300)
    assert parts.linear == whole.linear and parts.attention == whole.attention
    assert parts.forwards == 2 and parts.copied == LARGE.kv_bytes / 2 * 300
    assert sinks(LARGE, 1000).statistics == whole.attention / 2


def test_a_block_shares_its_haystack():
    alone, block = forward(LARGE, 1040), needles(LARGE, 1040, (100,))
    assert block.linear == alone.linear, "the needle behind everything costs its own tokens only"
    first = needles(LARGE, 1040, (0,))
    assert first.linear == pytest.approx(2 * alone.linear - forward(LARGE, 40).linear)


def test_memory_and_network_shrink_with_gpus():
    one, eight = memory(LARGE, 1 << 20, 1, 4096), memory(LARGE, 1 << 20, 8, 4096)
    assert one["weights"] == LARGE.parameters * 2 and one["keys and values"] == LARGE.kv_bytes * 2**20
    assert all(eight[name] < one[name] for name in one)
    assert network(LARGE, 1 << 20, 1)["heads"] == 0
    c = Cluster(2, linear=1e12, attention=5e11, network=1e9)
    assert seconds(Work(linear=2e12, attention=1e12, logits=0.0), c) == {"linear": 1, "attention": 1, "statistics": 0}


def test_the_fit_gives_back_rates_that_made_the_seconds_and_predicts_the_unseen():
    rng = np.random.default_rng()
    rates = np.array([1 / 8e10, 1 / 4e10, 1 / 1e10, 3e-4, 2e-3]) * rng.uniform(0.5, 2, 5)
    points = [
        {**asdict(geometry(width, layers)), "kind": kind, "tokens": n, "fitted": n < 4096}
        for width, layers in ((256, 2), (512, 6), (1024, 2), (256, 8))
        for n in (256, 1024, 2048, 4096)
        for kind in ("rows", "received", "block")
    ]

    def timed(late=1.0):
        return [
            {**p, "seconds": {"median": float(np.dot(columns(p), rates)) * (late if p["tokens"] == 4096 else 1)}}
            for p in points
        ]

    found = judged(timed())
    assert [r["term"] for r in found[:5]] == list(TERMS)
    np.testing.assert_allclose([r["seconds_of_one"] for r in found[:5]], rates, rtol=1e-6)
    assert max(r["error"]["max"] for r in found if "group" in r) < 1e-6
    assert measured(found).count("\n") > len(points)
    errors = {r["group"]: r["error"]["median"] for r in judged(timed(2.0)) if "group" in r}
    assert errors["fitted"] < 1e-6 and errors["unseen received"] == pytest.approx(0.5, abs=1e-6)


def test_the_page_shows_what_the_model_says():
    page = (ROOT / "docs" / "scale.md").read_text()
    for one in tables().split("\n\n"):
        assert one in page, "docs/scale.md: replace its tables by those of python tests/benchmarks/cost_model.py"
