"""Synthetic attention of long texts, pooled as the kernel pools it, and the words of such a text."""

from __future__ import annotations

import numpy as np

from workbench.views.pattern_tiles import Tile
from workbench.views.pattern_view import ExactRows, PatternView

WORDS = "the of and to in that it was he for on are with as his they at be this from have or by one had not".split()


def pooled(rng, heads, n, channels=1):
    """Noisy causal maps with a sink, a diagonal and a stripe; rows of channel 0 sum to one."""
    q, k = np.indices((n, n))
    weights = rng.lognormal(0.0, 0.5, (heads, n, n))
    weights[..., 0] += rng.gamma(1.0, 2.0 * n, (heads, n))
    weights += rng.gamma(1.0, 4.0, (heads, 1, 1)) * np.exp(-np.abs(q - k) / 2)
    weights *= k <= q
    weights /= weights.sum(-1, keepdims=True)
    return np.stack([weights, np.minimum(1, weights * rng.random((heads, n, n)))][:channels], 1)


def words(rng, count):
    return [f" {WORDS[i]}" if i < len(WORDS) else f" w{i}" for i in rng.integers(0, 4000, count)]


def long_view(layers=32, heads=32, length=131_072, fine=16, side=32, fine_side=256, seed=0, **rest):
    """A view of the size that issue 10 names: 1,024 heads over 131,072 tokens."""
    rng = np.random.default_rng(seed)
    overview = pooled(rng, layers * heads, side)[:, 0].reshape(layers, heads, side, side)
    names = [divmod(int(i), heads) for i in rng.permutation(layers * heads)[:fine]]
    size = -(-length // fine_side)
    tiles = [Tile(h, c, size, size) for h, c in zip(names, pooled(rng, fine, fine_side, 2), strict=True)]
    received = np.sort(rng.random((layers, heads, 8)) ** 4, -1)[..., ::-1]
    keys = rng.integers(0, length, (layers, heads, 8))
    keys[..., 0] = 0
    positions = [length - 1, length // 2]
    rows = ExactRows(
        positions, names, rng.integers(0, length // 2, (fine, 2, 64)), rng.dirichlet(np.full(64, 0.2), (fine, 2))
    )
    spans = {"needle": (length // 3, length // 3 + 12), "question": (length - 20, length - 4)}
    return PatternView(
        words(rng, length), overview, keys, received, tiles, rows, spans, "Patterns", "Synthetic.", **rest
    )
