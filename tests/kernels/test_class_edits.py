"""Edits by key class and by row against the float64 reference: every edit, compositions, masks, decoding, properties."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, attend, chunked, reference, reshaping, split, sweep
from workbench_kernels.types import RowPatterns

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}  # float32 sums of 150 terms; bf16 rounds at 2^-8
B, H, G, D, N = 3, 6, 2, 8, 29
SPECS = {
    "causal": {},
    "window": {"allowed": lambda b, h, i, j: (j <= i) & (i - j < 11), "reach": 11},
    "softcap": {"softcap": 1.5},
    "learned sink": {"sink_logits": torch.linspace(-2, 3, H)},
}


def inputs(seed: int, n: int = N, keys: int | None = None, dtype: torch.dtype = torch.float32):
    g = torch.Generator().manual_seed(seed)
    m = keys or n
    q, k, v = torch.randn(B, H, n, D, generator=g) * 2, *torch.randn(2, B, G, m, D, generator=g)
    return q.to(dtype), k.to(dtype), v.to(dtype), g


def padding(kind: str, m: int = N) -> torch.Tensor | None:
    pad, j = torch.tensor([0, 3, 7])[:, None], torch.arange(m)[None]
    return None if kind == "none" else j >= pad if kind == "left" else j < m - pad


def key_classes(g: torch.Generator, m: int = N, heads: int = 1) -> torch.Tensor:
    """Two sinks, a span, a bystander; the rest is class 0. Class 4 is empty."""
    out = torch.zeros(B, heads, m, dtype=torch.int8)
    for row, head in itertools.product(range(B), range(heads)):
        at = torch.randperm(min(m, 12), generator=g)[:2]
        out[row, head, 14 : 19 + row] = 2
        out[row, head, 0] = 3
        out[row, head, at] = 1
    return out


def table(*values: float) -> torch.Tensor:
    """Per class, for half of the heads: the others keep the plain pattern."""
    out = torch.zeros(1, H, len(values))
    out[:, ::2] = torch.tensor(values)
    return out


def gains(*values: float) -> torch.Tensor:
    return table(*(v - 1 for v in values)) + 1


def make(kind: str, g: torch.Generator, n: int = N, m: int = N) -> HeadEdits:
    keys, rule = key_classes(g, m, H if "by head" in kind else 1), torch.zeros(1, H, dtype=torch.long)
    rows = torch.tensor([[n - 1, n - 3], [n - 2, n - 5], [n - 1, n - 4]]).clamp_min(0)
    at = torch.randint(0, m, (B, 2, 3), generator=g)
    patterns = RowPatterns(torch.rand(B, H, generator=g) < 0.5, rows, at, torch.rand(B, 2, 3, generator=g))
    window = torch.tensor([[0, 3, 0, 5, 0, 9]])
    queries = torch.arange(n)[None] >= torch.tensor([[n // 2], [0], [n - 1]])
    calibrate = HeadEdits(key_class=keys, class_gain=gains(0.4, 0.7, 1), freed=rule + 1)
    amplify = HeadEdits(key_class=keys, class_gain=gains(3, 0.5, 2), freed=rule + 2)
    return {
        "calibrate": calibrate,
        "calibrate by head": calibrate,
        "amplify": amplify,
        "amplify, one class off": replace(amplify, class_gain=gains(3, 0, 2)),
        "suppress": HeadEdits(key_class=keys, class_gain=gains(0, 0.2, 1, 5), least_mass=table(0.3, 0.0, 0, 0)),
        "bias": HeadEdits(key_class=keys, bias=table(1.5, -2, 0.3)),
        "boost": HeadEdits(key_class=keys, boost=table(0.5, 0.2, 0)),
        "rows": HeadEdits(rows=patterns),
        "rows by head": HeadEdits(rows=replace(patterns, heads=torch.rand(B, H, 2, generator=g) < 0.5)),
        "rules by head": replace(calibrate, freed=torch.arange(H)[None] // 2 % 3),
        "calibrate, mask, window": replace(calibrate, gain=torch.rand(B, H, generator=g), window=window, sink=2),
        "all": HeadEdits(
            key_class=keys, class_gain=gains(0.4, 1, 1, 1), freed=rule + 1, bias=table(0, 0.7, 0), boost=table(0, 0, 0.4),
            rows=patterns, window=window, sink=1, uniform=torch.arange(H)[None] == 3, gain=torch.rand(B, H, generator=g),
        ),
        "all, some queries": HeadEdits(
            key_class=keys, class_gain=gains(0.4, 2, 1, 1), freed=rule + 2, bias=table(0, 0.7, 0), boost=table(0, 0, 0.4),
            rows=patterns, window=window, sink=1, queries=queries,
        ),
    }[kind]  # fmt: skip


KINDS = [
    "calibrate", "calibrate by head", "amplify", "amplify, one class off", "suppress", "bias", "boost", "rows",
    "rows by head", "rules by head", "calibrate, mask, window", "all", "all, some queries",
]  # fmt: skip


def small(monkeypatch, heads_in_turn: bool) -> None:
    """Several blocks, the last one ragged; heads in turn and the flash ways, where a text this short has neither."""
    for module in (chunked, sweep):
        monkeypatch.setattr(module, "ROWS", 8)
    monkeypatch.setattr(sweep, "FEWEST", 8)
    monkeypatch.setattr(split, "SCRATCH", 1)
    monkeypatch.setattr(reshaping, "DENSE", 2)
    if heads_in_turn:
        monkeypatch.setattr(reshaping, "SCRATCH", 0)


def check(q, k, v, spec, edits, tol: float, seed: int = 0) -> torch.Tensor:
    """Output and statistics against the truth; also that the edit did something."""
    n, m = q.shape[2], k.shape[2]
    want = Reductions(
        lse=True, received=True, entropy=True, distance=True, thumbnail=5, norms=True,
        rows=torch.tensor([[n - 1, n // 2]] * B), top_k=3, spans=torch.tensor([[[0, 2], [m // 3, m // 2]]] * B),
    )  # fmt: skip
    truth, expected = reference.attend(q, k, v, spec, edits, want)
    alone, _ = attend(q, k, v, spec, edits)
    z, stats = attend(q, k, v, spec, edits, want)
    rows = torch.ones(B, n, dtype=torch.bool)
    if spec.padding is not None:
        rows = spec.padding[:, spec.q_offset : spec.q_offset + n]
    keep = rows[:, None, :, None].expand_as(truth)
    for found in (alone, z):
        assert torch.isfinite(found).all() and found.dtype == q.dtype
        torch.testing.assert_close(found.double()[keep], truth[keep], atol=tol, rtol=tol)
    for name in ("lse", "received", "entropy", "distance", "thumbnail", "top_values", "mass"):
        ours, theirs = getattr(stats, name), getattr(expected, name)
        torch.testing.assert_close(ours.double(), theirs, atol=tol, rtol=tol, msg=lambda m, n=name: f"{n}: {m}")
    plain, _ = attend(q, k, v, spec)
    assert (plain - alone)[keep].abs().max() > 1e-2, "an edit that changes nothing cannot fail this test"
    return alone


@pytest.mark.parametrize(("kind", "name", "pad"), itertools.product(KINDS, SPECS, ["none", "left", "right"]))
def test_edits_equal_the_reference(kind: str, name: str, pad: str, monkeypatch):
    small(monkeypatch, True)
    q, k, v, g = inputs(3 * len(kind) + len(name))
    spec, edit = AttentionSpec(scale=0.3, padding=padding(pad), **SPECS[name]), make(kind, g)
    z = check(q, k, v, spec, edit, 2e-5)
    monkeypatch.setattr(reshaping, "SCRATCH", 1 << 19)
    at_once = attend(q, k, v, spec, edit)[0]
    torch.testing.assert_close(at_once, z, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind: str, monkeypatch):
    small(monkeypatch, True)
    q, k, v, g = inputs(len(kind), dtype=torch.bfloat16)
    check(q, k, v, AttentionSpec(scale=0.3), make(kind, g), TOLERANCE[torch.bfloat16])


@pytest.mark.parametrize(("kind", "pad"), itertools.product(KINDS, ["none", "left"]))
def test_decode_rows(kind: str, pad: str, monkeypatch):
    """The last rows of a text by themselves, with the keys before them cached: the same output."""
    small(monkeypatch, pad == "left")
    q, k, v, g = inputs(5, n=4, keys=N)
    check(q, k, v, AttentionSpec(scale=0.3, q_offset=N - 4, padding=padding(pad)), make(kind, g, n=4), 2e-5)


@pytest.mark.parametrize("kind", ["calibrate", "amplify", "suppress", "boost", "rows"])
def test_the_fast_ways_are_taken(kind: str, monkeypatch):
    small(monkeypatch, True)
    taken = []
    for name in ("by_bias", "by_split"):
        way = getattr(split, name)
        monkeypatch.setattr(split, name, lambda *a, n=name, w=way: (taken.append((n, len(a[0]))), w(*a))[1])
    q, k, v, g = inputs(1)
    attend(q, k, v, AttentionSpec(scale=0.3), make(kind, g))
    ways = {
        "calibrate": ("by_split", 9),
        "amplify": ("by_bias", 9),
        "suppress": ("by_split", 9),
        "boost": ("by_split", 9),
    }
    assert taken == ([ways[kind]] if kind in ways else [])


@pytest.mark.parametrize(("rule", "pad"), itertools.product(range(3), ["none", "left", "right"]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_class_of_most_keys_takes_two_flash_calls(rule: int, pad: str, dtype: torch.dtype, monkeypatch):
    small(monkeypatch, True)
    taken = []
    monkeypatch.setattr(split, "by_two", lambda *a, w=split.by_two: (taken.append(len(a[0])), w(*a))[1])
    q, k, v, g = inputs(8, dtype=dtype)
    keys = (torch.rand(B, H, N, generator=g) < 0.8).long()
    keys[..., 4:] |= 1  # the last rows see hardly any key of class 0, the first ones perhaps none
    edit = HeadEdits(
        key_class=keys, class_gain=gains(0.0 if rule == 0 else 0.4), freed=torch.full((1, H), rule),
        least_mass=table(0.6), bias=table(0.7),
    )  # fmt: skip
    check(q, k, v, AttentionSpec(scale=0.3, padding=padding(pad)), edit, TOLERANCE[dtype])
    assert set(taken) == {B * H // 2}


@pytest.mark.parametrize("in_turn", [False, True])
def test_strong_sinks_do_not_cancel(in_turn: bool, monkeypatch):
    """A head with all but a thousandth of its mass on the sinks: others formed as all − sinks would be off by 1e-2."""
    small(monkeypatch, in_turn)
    q, k, v, g = inputs(2)
    edit = make("calibrate", g)
    keys = edit.key_class
    assert keys is not None
    direction = torch.randn(D, generator=g)
    q = q + 5 * direction
    k = k + 5 * (keys == 1)[:, :, :, None] * direction
    spec = AttentionSpec(scale=0.3)
    p, _ = reference.full_pattern(q, k, spec)
    assert (p * (keys == 1)[:, :, None]).sum(-1)[:, :, 20:].mean() > 0.95
    check(q, k, v, spec, edit, 2e-5)


@pytest.mark.parametrize("in_turn", [False, True])
def test_rows_that_cannot_receive_are_left(in_turn: bool, monkeypatch):
    """The first rows see keys of the class alone: their freed mass has nowhere to go."""
    small(monkeypatch, in_turn)
    q, k, v, _ = inputs(4)
    keys = (torch.arange(N) < 5).long()[None, None].expand(B, -1, -1)
    edit = HeadEdits(key_class=keys, class_gain=torch.full((1, H, 1), 0.3), freed=torch.ones(1, H, dtype=torch.long))
    spec = AttentionSpec(scale=0.3)
    z = check(q, k, v, spec, edit, 2e-5)
    torch.testing.assert_close(z[:, :, :5], attend(q, k, v, spec)[0][:, :, :5])


def pattern(spec: AttentionSpec, edit: HeadEdits | None, q, k) -> torch.Tensor:
    """What the sweep sees, whole: the span masses of all rows with a span a key."""
    spans = torch.arange(N)[:, None] + torch.tensor([0, 1])
    mass = attend(q, k, torch.zeros(B, G, N, D), spec, edit, Reductions(spans=spans.expand(B, -1, -1)))[1].mass
    assert mass is not None
    return mass


SEEDS, GAINS = st.integers(0, 2**20), st.floats(0.0, 4.0)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, rule=st.integers(0, 2), name=st.sampled_from(list(SPECS)))
def test_a_gain_of_one_is_the_identity(seed: int, rule: int, name: str):
    q, k, v, g = inputs(seed)
    spec, freed = AttentionSpec(scale=0.3, **SPECS[name]), torch.full((1, H), rule)
    edit = HeadEdits(key_class=key_classes(g), class_gain=gains(1, 1), freed=freed, bias=table(0, 0), boost=table(0, 0))
    torch.testing.assert_close(pattern(spec, edit, q, k), pattern(spec, None, q, k), atol=2e-6, rtol=2e-6)
    assert torch.equal(attend(q, k, v, spec, edit)[0], attend(q, k, v, spec)[0])


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, rule=st.integers(1, 2), first=st.floats(0.0, 1.0), second=st.floats(0.0, 1.0))
def test_rows_keep_their_sum_and_masses_partition_it(seed: int, rule: int, first: float, second: float):
    q, k, v, g = inputs(seed)
    edit = HeadEdits(key_class=key_classes(g), class_gain=gains(first, second), freed=torch.full((1, H), rule))
    spec = AttentionSpec(scale=0.3)
    torch.testing.assert_close(pattern(spec, edit, q, k).sum(-1), torch.ones(B, H, N), atol=1e-5, rtol=0)
    parts = torch.tensor([[[0, 5], [5, 21], [21, N]]] * B)
    for padded in (None, padding("left")):
        stats = attend(q, k, v, replace(spec, padding=padded), edit, Reductions(spans=parts))[1]
        assert stats.mass is not None
        whole = stats.mass.sum(-1) if padded is None else stats.mass.sum(-1)[padded[:, None].expand(-1, H, -1)]
        torch.testing.assert_close(whole, torch.ones_like(whole), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["calibrate", "amplify", "boost", "rows", "all"])
def test_gradients(kind: str, monkeypatch):
    """Of the output, by finite differences of the output itself in float64."""
    small(monkeypatch, True)
    q, k, v, g = inputs(6)
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    edit, spec = make(kind, g), AttentionSpec(scale=0.3)
    weight = torch.randn(q.shape, generator=g).double()
    found = torch.autograd.grad((attend(*leaves, spec, edit)[0] * weight).sum(), leaves)
    for i, step in itertools.product(range(3), (1e-5,)):
        way = torch.randn(leaves[i].shape, generator=g).double()
        ends = []
        for sign in (1, -1):
            moved = [x.detach() + (sign * step * way if j == i else 0) for j, x in enumerate(leaves)]
            ends.append((reference.attend(*moved, spec, edit)[0] * weight).sum())
        expected = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close((found[i] * way).sum(), expected, atol=1e-6, rtol=1e-6)
