"""From errors to windows: against a search written out; windows as scores."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import BadInput
from workbench.smallest_windows import METHOD, as_scores, grid, smallest

NAN = float("nan")


def naive(errors, windows, context, tolerance, kv_heads):
    layers, heads, _ = errors.shape
    out = np.full((layers, kv_heads), context)
    for i in range(layers):
        for g in range(kv_heads):
            group = range(g * heads // kv_heads, (g + 1) * heads // kv_heads)
            for w in reversed(range(len(windows))):
                if not all(errors[i, h, w] <= tolerance for h in group):
                    break
                out[i, g] = windows[w]
    return out


@pytest.mark.parametrize("seed", range(5))
def test_against_a_search(seed):
    rng = np.random.default_rng(seed)
    windows = (16, 32, 64)
    errors = np.sort(rng.random((4, 6, 3)), -1)[..., ::-1]
    errors = np.where(rng.random(errors.shape) < 0.1, rng.choice([NAN, 0.0, 1.0], errors.shape), errors)
    for tolerance in (0.1, 0.5, 0.9):
        for kv in (1, 2, 3, 6):
            np.testing.assert_array_equal(
                smallest(errors, windows, 100, tolerance, kv), naive(errors, windows, 100, tolerance, kv)
            )


def test_ends_and_a_window_that_only_seems_to_do():
    windows = (16, 32)
    errors = np.array([[[0.0, 0.0], [0.1, 0.0], [0.3, 0.1], [0.3, 0.2], [0.0, 0.5], [NAN, 0.0]]])
    assert smallest(errors, windows, 64, 0.1, 6).tolist() == [[16, 16, 32, 64, 64, 32]]
    assert smallest(errors, windows, 64, 0.1, 3).tolist() == [[16, 64, 64]], "the group's worst query head counts"


def test_the_grid_doubles_and_stays_below_the_context():
    assert grid(1024) == (16, 32, 64, 128, 256, 512)
    assert grid(100, 10) == (10, 20, 40, 80) and grid(17) == (16,)
    with pytest.raises(BadInput, match="nothing to fit"):
        grid(16)


def test_windows_are_scores_whose_threshold_is_the_whole_context():
    found = as_scores(np.array([[16, 64], [32, 16]]), (16, 32), 64, 0.1, 4, rows=["told"])
    assert (found.method, found.kv_heads, found.parameters["rows"]) == (METHOD, 2, ["told"])
    assert [tuple(h) for h in found.at_least(found.parameters["threshold"])] == [(0, 1)]
