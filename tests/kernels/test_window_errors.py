"""Errors of windows in one pass, against whole patterns in float64 written out row by row."""

from __future__ import annotations

import pytest
import torch
from workbench_kernels.window_errors import ROWS, window_errors


def naive(q, k, v, scale, at, windows, sink):
    """[b, h, r, w]: every window a softmax of its own, in float64."""
    q, k, v = (x.double() for x in (q, k, v))
    out = torch.zeros(*q.shape[:3], len(windows), dtype=torch.float64)
    group = q.shape[1] // k.shape[1]
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for r, t in enumerate(at[b].tolist()):

                def z(keys, b=b, h=h, r=r):
                    weights = (k[b, h // group, keys] @ q[b, h, r] * scale).softmax(0)
                    return weights @ v[b, h // group, keys]

                whole = z(list(range(t + 1)))
                for i, w in enumerate(windows):
                    seen = [j for j in range(t + 1) if j < sink or t - j < w]
                    out[b, h, r, i] = (z(seen) - whole).norm() / whole.norm()
    return out


def drawn(seed, b=2, h=6, g=3, n=90, d=8, e=5, rows=11, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    q = torch.randn(b, h, n, d, generator=rng)
    k, v = torch.randn(b, g, n, d, generator=rng) * 2, torch.randn(b, g, n, e, generator=rng)
    at = torch.stack([torch.randperm(n, generator=rng)[:rows].sort().values for _ in range(b)])
    chosen = q.gather(2, at[:, None, :, None].expand(-1, h, -1, d))
    return chosen.to(dtype), k.to(dtype), v.to(dtype), at


@pytest.mark.parametrize(("sink", "windows"), [(0, (1, 7, 64)), (4, (16, 32, 64)), (3, (2, 90, 200)), (100, (5,))])
@pytest.mark.parametrize("seed", range(2))
def test_against_whole_patterns(seed, sink, windows):
    q, k, v, at = drawn(seed)
    found = window_errors(q, k, v, 0.4, at, windows, sink)
    torch.testing.assert_close(found.double(), naive(q, k, v, 0.4, at, windows, sink), atol=3e-6, rtol=1e-5)
    assert (found[..., -1] == 0).all() == (windows[-1] >= 90 or sink >= 90)


def test_several_blocks_of_rows_and_bf16():
    """More rows than a block holds, at every position; bfloat16 differs from its own float64 truth by rounding alone."""
    rows = ROWS + 21
    q, k, v, at = drawn(3, b=1, n=rows, rows=rows)
    assert at[0].tolist() == list(range(rows))
    found, truth = window_errors(q, k, v, 0.3, at, (4, 32), 2), naive(q, k, v, 0.3, at, (4, 32), 2)
    torch.testing.assert_close(found.double(), truth, atol=3e-6, rtol=1e-5)
    half = [x.bfloat16() for x in (q, k, v)]
    torch.testing.assert_close(
        window_errors(*half, 0.3, at, (4, 32), 2).double(), naive(*half, 0.3, at, (4, 32), 2), atol=1e-5, rtol=1e-5
    )


def test_far_keys_that_outweigh_all_near_ones():
    """Weights of the window that vanish beside the far ones must still give the window's own output."""
    q, k, v, at = drawn(4, b=1, h=2, g=1, n=40, rows=3)
    at = torch.tensor([[30, 35, 39]])
    k[:, :, 5] = q.mean((1, 2))[:, None] * 400
    q = q.abs() + q.mean((1, 2), keepdim=True)
    found = window_errors(q, k, v, 1.0, at, (4, 16), 0)
    assert found.isfinite().all()
    torch.testing.assert_close(found.double(), naive(q, k, v, 1.0, at, (4, 16), 0), atol=1e-4, rtol=1e-4)


def test_errors_can_tell_a_window_that_is_off_by_one():
    q, k, v, at = drawn(5)
    found = window_errors(q, k, v, 0.4, at, (16,), 4).double()
    assert not torch.allclose(found, naive(q, k, v, 0.4, at, (17,), 4), atol=1e-3)
    assert not torch.allclose(found, naive(q, k, v, 0.4, at, (16,), 3), atol=1e-3)
