"""A synthetic atlas of any size through the real result and report: smooth random patterns, as many scores as a run has."""

from __future__ import annotations

import numpy as np
from workbench_analyses.atlas import Atlas
from workbench_analyses.atlas_parts.estimates import Estimate
from workbench_analyses.atlas_parts.measures import BATTERY, CORPUS, REPEATS, SINKS
from workbench_analyses.atlas_parts.patterns import VERSIONS
from workbench_analyses.atlas_parts.pictures import LEVELS, side
from workbench_analyses.atlas_parts.result import HeadAtlas
from workbench_analyses.atlas_parts.side import Picture, Raised, Score, Side

from workbench.heads import ModelIdentity

BINS = 10


def atlas(layers: int = 32, heads: int = 32, prompts: int = 10, words: int = 400, seed: int = 0) -> HeadAtlas:
    """Random scores with intervals for all measures of a text model; the noise packs worse than real patterns do."""
    rng = np.random.default_rng(seed)
    shape = (layers, heads)

    def estimate() -> Estimate:
        values = rng.random(shape)
        return Estimate(values, values * 0.9, values * 1.1, 8)

    scores = [Score(m, v, estimate()) for m in (*CORPUS, *SINKS, *REPEATS, *BATTERY[:-1]) for v in m.versions]
    profiles = {v: rng.random((*shape, BINS)) for v in VERSIONS}
    vocabulary = tuple(f" word{i}" for i in range(words))
    reads = rng.integers(0, words, (*shape, 6))
    shares = np.sort(rng.random((*shape, 6)))[..., ::-1] / 6
    ids = rng.integers(0, words, (*shape, 3, 3))
    pictures = tuple(_picture(rng, shape, i, side(layers * heads, prompts)) for i in range(prompts))
    one = Side(
        ModelIdentity("synthetic", "0" * 16, "0" * 16), "synthetic scores", max(1, heads // 4), (), tuple(scores), profiles,
        vocabulary, reads, shares, Raised(vocabulary, ids, ids), pictures, None, {"scenes": "a model of text"},
        ("corpus: 8 texts of 512 tokens (synthetic)",),
    )  # fmt: skip
    return HeadAtlas(one, None, Atlas(out=None), "synthetic scores", {"seconds": 0.0, "peak_memory_mib": 0.0})


def _picture(rng: np.random.Generator, shape: tuple[int, int], i: int, n: int) -> Picture:
    mass = np.cumsum(rng.normal(size=(*shape, n, n)), -1) + 2 * rng.random((*shape, 1, 1))
    levels = np.clip(4 + mass, 0, LEVELS - 1).astype(np.uint8) * np.tri(n, dtype=np.uint8)
    return Picture(f"prompt {i + 1}", tuple(" a" for _ in range(256)), {"needle": (60, 90)}, levels)
