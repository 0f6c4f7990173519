"""Edits of several phases in one call, against the float64 reference and against a call for each phase."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, Unsupported, attend
from workbench_kernels.class_edits import factors
from workbench_kernels.statistics import statistics
from workbench_kernels.sweep import ROWS
from workbench_kernels.types import RowPatterns

B, H, G, D = 2, 4, 2, 8
TOL = {"atol": 2e-5, "rtol": 2e-5}  # float32 sums of at most 150 weights
ROWWISE = ("lse", "entropy", "mass", "top_values", "norms", "at_offset")
WHOLE = ("received", "distance", "thumbnail")


def case(seed: int, n: int, padded: str = "none", **spec):
    g = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(B, H, n, D, generator=g) * 2, *torch.randn(2, B, G, n, D, generator=g)
    pad, j = torch.tensor([[0], [3]]), torch.arange(n)[None]
    padding = {"none": None, "left": j >= pad, "right": j < n - pad}[padded]
    return q, k, v, AttentionSpec(scale=0.4, padding=padding, **spec), g


def two_phases(g: torch.Generator, n: int, starts=(9, 14)) -> list[HeadEdits]:
    """Different edits in the rows before a start and from it on; the start differs by batch row."""
    late = torch.arange(n)[None] >= torch.tensor(starts)[:, None]
    classes = torch.zeros(B, 1, n, dtype=torch.int8)
    classes[:, :, [1, 5]], classes[:, :, 6:9] = 1, 2
    at, weights = torch.randint(0, 8, (B, 1, 2), generator=g), torch.rand(B, 1, 2, generator=g)
    rows = RowPatterns(torch.tensor([[False, True, False, True]]), torch.full((B, 1), n - 2), at, weights)
    early = HeadEdits(
        key_class=classes, class_gain=torch.tensor([[[0.3, 1.0]] * H]), freed=torch.ones(1, H, dtype=torch.long),
        gain=torch.tensor([[1.0, 0.5, 1.0, 2.0]]), queries=~late,
    )  # fmt: skip
    return [early, HeadEdits(
        key_class=classes, bias=torch.tensor([[[0.0, 1.5]] * H]), window=torch.tensor([[0, 4, 0, 0]]), sink=2,
        uniform=torch.tensor([[True, False, False, False]]), queries=late, rows=rows,
    )]  # fmt: skip


def requests(n: int) -> list[Reductions]:
    spans = torch.tensor([[[0, 4], [3, n]]] * B)
    return [
        Reductions(lse=True, received=True, entropy=True, distance=True, thumbnail=5, norms=True, offsets=(0, 2)),
        Reductions(top_k=3, spans=spans),
        Reductions(rows=torch.tensor([[3, n - 1, 10], [15, 11, n - 2]]), top_k=2, spans=spans),
    ]


@pytest.mark.parametrize("padded", ["none", "left", "right"])
@pytest.mark.parametrize("name", ["causal", "window", "softcap", "learned sink"])
def test_output_and_statistics_are_those_of_each_rows_phase(name: str, padded: str):
    n, more = 27, {
        "window": {"allowed": lambda b, h, i, j: (j <= i) & (i - j < 11), "reach": 11}, "softcap": {"softcap": 1.5},
        "learned sink": {"sink_logits": torch.linspace(-2, 3, H)},
    }.get(name, {})  # fmt: skip
    q, k, v, spec, g = case(len(name), n, padded, **more)
    edits = two_phases(g, n)
    for want in requests(n):
        z, ours = attend(q, k, v, spec, edits, want)
        z64, theirs = attend(q, k, v, spec, edits, want, backend="reference")
        torch.testing.assert_close(z.double(), z64, **TOL)
        alone = statistics(q, k, spec, edits, want)
        for field in (*ROWWISE, *WHOLE):
            a, b, c = (getattr(x, field) for x in (ours, theirs, alone))
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a.double(), b, **TOL)
            if c is not None:
                assert torch.equal(a, c), field


@torch.no_grad()
def test_each_phase_alone_gives_its_rows():
    """Not by the reference: a call of one phase, whose edits hold in all rows, is right in the rows of that phase."""
    n = ROWS + 22
    q, k, v, spec, g = case(3, n)
    edits, want = two_phases(g, n, (ROWS - 5, ROWS + 9)), Reductions(lse=True, entropy=True, received=True)
    z, both = attend(q, k, v, spec, edits, want)
    assert both.entropy is not None and both.received is not None
    for edit in edits:
        one, found = attend(q, k, v, spec, replace(edit, queries=None), want)
        assert edit.queries is not None and found.entropy is not None
        here = edit.queries[:, None].expand(B, H, n)
        torch.testing.assert_close(z[here], one[here], **TOL)
        torch.testing.assert_close(both.entropy[here], found.entropy[here], **TOL)
    plain = attend(q, k, v, spec, None, want)[1]
    assert plain.entropy is not None and (plain.entropy - both.entropy).abs().max() > 0.1, "the edits did nothing"


def test_gradients_pass_through_both_phases():
    q, k, v, spec, g = case(5, 27)
    edits = two_phases(g, 27)
    for x in (q, k, v):
        x.requires_grad_()
    weight = torch.randn(B, H, 27, D, generator=g)
    (attend(q, k, v, spec, edits)[0] * weight).sum().backward()
    ours = [x.grad for x in (q, k, v)]
    for edit in edits:
        assert edit.queries is not None
        for x in (q, k, v):
            x.grad = None
        part = attend(q, k, v, spec, edit)[0] * weight * edit.queries[:, None, :, None]
        part.sum().backward()
        for i, x in enumerate((q, k, v)):
            assert ours[i] is not None and x.grad is not None
            ours[i] = ours[i] - x.grad
    assert all(x is not None and x.abs().max() < 1e-4 for x in ours)


def test_triton_refuses_statistics_of_phases():
    pytest.importorskip("triton")
    q, k, v, spec, g = case(6, 27)
    edits = [replace(e, rows=None, uniform=None) for e in two_phases(g, 27)]
    with pytest.raises(Unsupported, match="several phases"):
        attend(q, k, v, spec, edits, Reductions(lse=True), backend="triton")


def test_gains_take_no_more_than_the_others_have():
    """Rule "others" with a gain above 1: class 0 is left with nothing, never with less, and rows may exceed one."""
    n = 31
    q, k, v, spec, _ = case(7, n)
    classes = torch.zeros(1, 1, n, dtype=torch.int8)
    classes[..., :6] = 1
    edit = HeadEdits(key_class=classes, class_gain=torch.full((1, H, 1), 4.0), freed=torch.ones(1, H, dtype=torch.long))
    want = Reductions(spans=torch.tensor([[[0, 6], [6, n]]] * B), top_k=n)
    z, ours = attend(q, k, v, spec, edit, want)
    z64, theirs = attend(q, k, v, spec, edit, want, backend="reference")
    plain = attend(q, k, v, spec, None, want, backend="reference")[1].mass
    assert ours.mass is not None and theirs.mass is not None and plain is not None
    torch.testing.assert_close(z.double(), z64, **TOL)
    torch.testing.assert_close(ours.mass.double(), theirs.mass, **TOL)
    torch.testing.assert_close(
        theirs.mass[..., 1], (plain[..., 1] - 3 * plain[..., 0]).clamp_min(0) * (plain[..., 1] > 0)
    )
    short = (plain[..., 1] > 0) & (plain[..., 1] < 3 * plain[..., 0])
    assert short.any() and not short.all() and (theirs.mass[..., 1][short] == 0).all()
    mass = torch.tensor([0.2, 0.8, 0.0, 0.0, 0.0]).expand(1, H, 1, 5)
    assert factors(mass, edit, torch.ones(1, 1, 1, 1, dtype=torch.bool))[0, 0, 0, :2].tolist() == [0.0, 4.0]
