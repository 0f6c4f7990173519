"""The benchmark's works give what its peers give; times are not tested."""

from __future__ import annotations

import pytest
import torch
from workbench_kernels import benchmark
from workbench_kernels.timing import paired, spread


def test_ours_equals_the_peers():
    layers = benchmark.inputs(1024)[:1]
    for work in benchmark.works(1024, more=True):
        z, stats = benchmark.ours(layers, work)[0]
        plain = benchmark.sdpa(layers)[0]
        if work.edits is None:
            torch.testing.assert_close(z, plain, atol=2e-5, rtol=1e-4)
        else:
            assert (z - plain).abs().max() > 1e-3, "an edit that changes nothing costs nothing"
        if work.peer == "eager":
            _, received, top, mass = benchmark.eager(layers, work.reductions)[0]
            torch.testing.assert_close(stats.received, received, atol=1e-6, rtol=1e-4)
            torch.testing.assert_close(stats.top_values, top, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(stats.mass, mass, atol=1e-5, rtol=1e-4)


def test_a_ratio_needs_repetitions():
    with pytest.raises(ValueError, match="at least 5"):
        paired(int, int, 4)
    assert paired(int, int, 5)["repetitions"] == 5 and spread([3, 1, 2]) == {"min": 1, "median": 2, "max": 3}
