"""Windowed heads by flash over the keys in reach, against the float64 reference; that it is this way that is taken."""

from __future__ import annotations

import itertools

import pytest
import torch
from workbench_kernels import AttentionSpec, HeadEdits, attend, reference, reshaping, windows

B, H, G, N, D = 2, 6, 2, 43, 8
PAD = {
    "none": None,
    "left": torch.arange(N)[None] >= torch.tensor([[0], [9]]),
    "right": torch.arange(N)[None] < N - torch.tensor([[0], [9]]),
}


@pytest.mark.parametrize(("pad", "sliding", "sink"), itertools.product(PAD, [None, 17], [0, 3]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_windows_equal_the_reference(pad: str, sliding: int | None, sink: int, dtype: torch.dtype, monkeypatch):
    monkeypatch.setattr(windows, "ROWS", 8)
    monkeypatch.setattr(reshaping, "SCRATCH", 0)
    q, k, v = (torch.randn(B, x, N, D).to(dtype) for x in (H, G, G))
    spec = AttentionSpec(scale=0.6, padding=PAD[pad], sliding=sliding)
    window = torch.tensor([[0, 5, 5, 60, 0, 1], [4, 0, 9, 2, 0, 13]])
    queries = torch.arange(N)[None] >= torch.tensor([[0], [20]])
    for edits in (HeadEdits(window=window, sink=sink), HeadEdits(window=window, sink=sink, queries=queries)):
        calls: list[int] = []

        def counted(*x, calls=calls, way=windows.by_window):
            calls.append(len(x[0]))
            return way(*x)

        with monkeypatch.context() as patch:
            patch.setattr(windows, "by_window", counted)
            patch.setattr(reshaping, "select_heads", None)  # no head takes the slow way
            z, _ = attend(q, k, v, spec, edits)
        assert calls == [8]  # pairs of a batch row and a head
        truth, _ = reference.attend(q, k, v, spec, edits)
        rows = torch.ones(B, N, dtype=torch.bool) if spec.padding is None else spec.padding
        error = (z.double() - truth).abs().amax((1, 3))[rows].max()
        assert error < (2e-5 if dtype == torch.float32 else 2e-2) * float(truth.abs().max())
        assert torch.isfinite(z).all()
        plain, _ = attend(q, k, v, spec)
        assert (plain - z).abs().max() > 1e-2


def test_a_window_beside_another_edit_is_not_mistaken_for_a_window_alone(monkeypatch):
    monkeypatch.setattr(reshaping, "SCRATCH", 0)
    q, k, v = (torch.randn(B, x, N, D) for x in (H, G, G))
    classes = (torch.arange(N) < 4).long()[None, None]
    edits = HeadEdits(
        window=torch.tensor([[4, 0, 4, 0, 4, 0]]), sink=2, key_class=classes, class_gain=torch.full((1, H, 1), 0.3),
        uniform=torch.arange(H)[None] == 4,
    )  # fmt: skip
    edits.class_gain[:, 0] = 1.0  # type: ignore[index]  # this head has a window only
    z, _ = attend(q, k, v, AttentionSpec(scale=0.6), edits)
    truth, _ = reference.attend(q, k, v, AttentionSpec(scale=0.6), edits)
    torch.testing.assert_close(z.double(), truth, atol=2e-5, rtol=2e-5)


def test_a_cache_that_has_dropped_its_first_keys_has_no_sinks(monkeypatch):
    monkeypatch.setattr(windows, "ROWS", 8)
    monkeypatch.setattr(reshaping, "SCRATCH", 0)
    q, k, v = torch.randn(B, H, 12, D), torch.randn(B, G, N, D), torch.randn(B, G, N, D)
    spec = AttentionSpec(scale=0.6, q_offset=7 + N - 12, kv_offset=7, first=torch.tensor([0, 8]), sliding=30)
    edits = HeadEdits(window=torch.full((1, H), 6), sink=3)
    z, _ = attend(q, k, v, spec, edits)
    torch.testing.assert_close(z.double(), reference.attend(q, k, v, spec, edits)[0], atol=2e-5, rtol=2e-5)
