"""Every backend against the float64 reference, on random shapes, masks and edits."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, attend, chunked, reference, sweep

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}  # float32 sums of 150 terms; bf16 rounds at 2^-8


def inputs(seed: int, n: int = 23, keys: int | None = None, dtype: torch.dtype = torch.float32):
    g = torch.Generator().manual_seed(seed)
    b, h, kv, d, m = 3, 6, 2, 10, keys or n

    def make(*shape):
        return torch.randn(*shape, generator=g).to(dtype)

    return make(b, h, n, d) * 2, make(b, kv, m, d), make(b, kv, m, d), g


def padding(kind: str, b: int, m: int) -> torch.Tensor | None:
    if kind == "none":
        return None
    pad, j = torch.tensor([0, 3, 7])[:b, None], torch.arange(m)[None]
    return j >= pad if kind == "left" else j < m - pad


def window_mask(size: int):
    return lambda b, h, i, j: (j <= i) & (i - j < size)


SPECS = {
    "causal": {},
    "window": {"allowed": window_mask(6), "reach": 6},
    "sliding": {"sliding": 6},
    "wide": {"sliding": 40},
    "softcap": {"softcap": 1.5},
    "learned sink": {"sink_logits": torch.linspace(-2, 3, 6)},
    "by row": {"allowed": lambda b, h, i, j: (j <= i) & (i - j < 4 + 5 * b)},
}


def small_blocks(monkeypatch):
    """Several blocks, the last one ragged."""
    for module in (chunked, sweep):
        monkeypatch.setattr(module, "ROWS", 8)
    monkeypatch.setattr(sweep, "FEWEST", 8)


STATISTICS = (
    "lse", "received", "mass", "top_values", "at_offset", "entropy", "distance", "thumbnail", "norms", "sink_mass",
)  # fmt: skip


def check(z, stats, q, k, v, spec, edits, want, tol):
    truth, expected = reference.attend(q, k, v, spec, edits, want)
    rows = torch.ones(q.shape[0], q.shape[2], dtype=torch.bool)
    if spec.padding is not None:
        rows = spec.padding[:, spec.q_offset : spec.q_offset + q.shape[2]]
    keep = rows[:, None, :, None].expand_as(truth)
    assert torch.isfinite(z).all()
    torch.testing.assert_close(z.double()[keep], truth[keep], atol=tol, rtol=tol)
    for name in STATISTICS:
        ours, theirs = getattr(stats, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None and name == "norms":  # rows that are padding hold what they like
            torch.testing.assert_close(ours.double()[keep[..., 0]], theirs[keep[..., 0]], atol=tol, rtol=tol)
        elif ours is not None:
            torch.testing.assert_close(ours.double(), theirs, atol=tol, rtol=tol, msg=lambda m, n=name: f"{n}: {m}")
    if stats.top_indices is not None:
        pattern, _ = reference.full_pattern(q, k, spec, edits)
        b = torch.arange(q.shape[0])[:, None, None, None]
        h = torch.arange(q.shape[1])[None, :, None, None]
        rows = torch.arange(q.shape[2])[None] if want.rows is None else want.rows
        found = pattern[b, h, rows[:, None, :, None], stats.top_indices]
        torch.testing.assert_close(found, expected.top_values, atol=tol, rtol=tol)


def requests(b: int, n: int, m: int, every_row: bool = False, sinks: bool = False) -> Reductions:
    rows = None if every_row else torch.tensor([[n - 1, n // 2, n - 2]] * b)
    spans = torch.tensor([[[m // 2 - 3, m // 2], [0, 2]], [[4, 9], [m - 3, m]], [[8, 8], [7, 12]]])[:b]
    return Reductions(
        lse=True, received=True, offsets=(1, 4), entropy=True, distance=True, thumbnail=5, norms=True, sink_mass=sinks,
        rows=rows, top_k=3, spans=spans,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "pad"), itertools.product(SPECS, ["none", "left", "right"]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_statistics_and_output_equal_the_reference(name: str, pad: str, dtype: torch.dtype, monkeypatch):
    small_blocks(monkeypatch)
    q, k, v, _ = inputs(len(name), dtype=dtype)
    spec = AttentionSpec(scale=0.3, padding=padding(pad, 3, 23), **SPECS[name])
    want = requests(3, 23, 23, every_row=pad == "left", sinks=name == "learned sink")
    z, stats = attend(q, k, v, spec, None, want)
    assert z.dtype == dtype
    check(z, stats, q, k, v, spec, None, want, TOLERANCE[dtype])


def edits(kind: str, g: torch.Generator) -> HeadEdits:
    gain = torch.rand(3, 6, generator=g) * 2
    some = torch.rand(3, 6, generator=g) < 0.4
    window = torch.tensor([[0, 3, 0, 5, 0, 9]])
    queries = torch.arange(23)[None] >= torch.tensor([[10], [0], [22]])
    values = torch.randn(3, 6, 1, 10, generator=g)
    return {
        "gain": HeadEdits(gain=gain),
        "gain for all rows": HeadEdits(gain=gain[:1]),
        "uniform": HeadEdits(uniform=some),
        "window": HeadEdits(window=window, sink=2),
        "replace": HeadEdits(replace=some, replacement=values),
        "all, some queries": HeadEdits(
            gain=gain, uniform=some, window=window, sink=1, replace=~some, replacement=values, queries=queries
        ),
    }[kind]


KINDS = ["gain", "gain for all rows", "uniform", "window", "replace", "all, some queries"]


@pytest.mark.parametrize(("kind", "name", "pad"), itertools.product(KINDS, SPECS, ["none", "left"]))
def test_edits_equal_the_reference(kind: str, name: str, pad: str, monkeypatch):
    small_blocks(monkeypatch)
    q, k, v, g = inputs(7 * len(kind))
    spec = AttentionSpec(scale=0.3, padding=padding(pad, 3, 23), **SPECS[name])
    want, edit = requests(3, 23, 23), edits(kind, g)
    z, stats = attend(q, k, v, spec, edit, want)
    check(z, stats, q, k, v, spec, edit, want, 2e-5)
    plain, _ = attend(q, k, v, spec)
    assert (plain - z).abs().max() > 1e-2, "an edit that changes nothing cannot fail this test"


@pytest.mark.parametrize("pad", ["none", "left"])
def test_decode_rows_see_the_cache(pad: str):
    q, k, v, _ = inputs(3, n=2, keys=23)
    spec = AttentionSpec(scale=0.3, q_offset=21, padding=padding(pad, 3, 23))
    want = requests(3, 2, 23)
    want = replace(want, offsets=(0, 3), rows=torch.tensor([[0, 1]] * 3))
    z, stats = attend(q, k, v, spec, None, want)
    check(z, stats, q, k, v, spec, None, want, 2e-5)
    last, _ = attend(q[:, :, 1:], k, v, AttentionSpec(scale=0.3, q_offset=22, padding=spec.padding))
    torch.testing.assert_close(last, z[:, :, 1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_masses_alone_ride_on_one_flash_call(dtype: torch.dtype, monkeypatch):
    q, k, v, _ = inputs(11, dtype=dtype)
    spec, want = AttentionSpec(scale=0.3), Reductions(spans=requests(3, 23, 23).spans, norms=True)
    monkeypatch.setattr(chunked, "sweep", None)  # not needed
    z, stats = attend(q, k, v, spec, HeadEdits(gain=torch.full((1, 6), 0.5)), want)
    check(z, stats, q, k, v, spec, HeadEdits(gain=torch.full((1, 6), 0.5)), want, TOLERANCE[dtype])
