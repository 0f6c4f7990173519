"""Numbers of single rows (profile, moments, matches) against the float64 reference, block borders and paddings included."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from workbench_kernels import (
    AttentionSpec,
    HeadEdits,
    Matches,
    Reductions,
    Unsupported,
    attend,
    chunked,
    reference,
    sweep,
)
from workbench_kernels.statistics import statistics
from workbench_kernels.triton_support import why_not

NAMES = ("profile", "moments", "matched")
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}
SPECS = {
    "causal": {},
    "window": {"allowed": lambda b, h, i, j: (j <= i) & (i - j < 6), "reach": 6},
    "sliding": {"sliding": 6},
    "softcap": {"softcap": 1.5},
    "learned sink": {"sink_logits": torch.linspace(-2, 3, 6)},
}


def inputs(seed: int, n: int = 23, keys: int | None = None, dtype: torch.dtype = torch.float32):
    g = torch.Generator().manual_seed(seed)
    sizes = ((3, 6, n, 10), (3, 2, keys or n, 10), (3, 2, keys or n, 10))
    q, k, v = (torch.randn(*size, generator=g).to(dtype) for size in sizes)
    return 2 * q, k, v, g


def padding(kind: str, m: int) -> torch.Tensor | None:
    pad, j = torch.tensor([0, 3, 7])[:, None], torch.arange(m)[None]
    return {"none": None, "left": j >= pad, "right": j < m - pad}[kind]


def small_blocks(monkeypatch):
    """Several blocks, the last one ragged."""
    monkeypatch.setattr(sweep, "ROWS", 8)
    monkeypatch.setattr(sweep, "FEWEST", 8)


def wanted(seed: int, n: int, m: int, b: int = 3) -> Reductions:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (b, max(n, m)), generator=g)
    keys = torch.stack([labels[:, :m], torch.randint(-1, 4, (b, m), generator=g), labels[:, :m]], 1)
    return Reductions(profile=True, moments=True, matches=Matches(labels[:, -n:], keys, (0.0, 0.0, 0.05)))


def agree(stats, q, k, v, spec, edits, want, tol) -> None:
    truth = reference.attend(q, k, v, spec, edits, want)[1]
    for name in NAMES:
        ours, theirs = getattr(stats, name).double(), getattr(truth, name)
        assert ours.shape == theirs.shape, name
        torch.testing.assert_close(ours, theirs, atol=tol * max(1, float(theirs.max())), rtol=tol)


@pytest.mark.parametrize(("name", "pad"), itertools.product(SPECS, ["none", "left", "right"]))
def test_rows_equal_the_reference(name: str, pad: str, monkeypatch):
    small_blocks(monkeypatch)
    q, k, v, _ = inputs(len(name) + len(pad))
    spec = AttentionSpec(scale=0.3, padding=padding(pad, 23), **SPECS[name])
    want = wanted(len(name), 23, 23)
    agree(attend(q, k, v, spec, None, want)[1], q, k, v, spec, None, want, 2e-5)


def test_bfloat16_and_decode_rows_too(monkeypatch):
    small_blocks(monkeypatch)
    q, k, v, _ = inputs(5, dtype=torch.bfloat16)
    spec, want = AttentionSpec(scale=0.3), wanted(5, 23, 23)
    want = replace(want, matches=replace(want.matches, least=(0.0, 0.0, 0.0)))  # a threshold would be a step
    agree(attend(q, k, v, spec, None, want)[1], q, k, v, spec, None, want, TOLERANCE[torch.bfloat16])
    q, k, v, _ = inputs(6, n=2, keys=23)
    spec, want = AttentionSpec(scale=0.3, q_offset=21, padding=padding("left", 23)), wanted(6, 2, 23)
    agree(attend(q, k, v, spec, None, want)[1], q, k, v, spec, None, want, 2e-5)


def test_keys_of_a_class_can_be_taken_out(monkeypatch):
    small_blocks(monkeypatch)
    q, k, v, g = inputs(7)
    gone = torch.rand(3, 6, 23, generator=g) < 0.3
    edit = HeadEdits(key_class=gone.to(torch.int8), class_gain=torch.zeros(1, 6, 1))
    spec, want = AttentionSpec(scale=0.3, padding=padding("left", 23)), wanted(7, 23, 23)
    found = statistics(q, k, spec, edit, want)
    agree(found, q, k, v, spec, edit, want, 2e-5)
    pattern, _ = reference.full_pattern(q, k, spec)
    left = pattern.masked_fill(gone[:, :, None], 0).sum(-1)
    torch.testing.assert_close(found.profile.double().sum(-1), left, atol=2e-5, rtol=0)
    assert (left < 0.9).any(), "keys without weight could be taken out unseen"


def test_moments_are_exact_for_heads_that_look_at_one_distance(monkeypatch):
    """As differences of squares they would be off by far more than this."""
    monkeypatch.setattr(sweep, "SCRATCH", 1 << 14)
    n, d = 700, 8
    angle = torch.arange(n)[:, None] * torch.tensor([[0.9, 0.31, 0.17, 0.077]])
    q = torch.cat([angle.cos(), angle.sin()], -1)[None, None] * 40
    for back in (0, 1, 300):
        k = q.roll(-back, 2) / 40
        out = chunked.attend(q, k, torch.zeros_like(q), AttentionSpec(scale=1.0), None, Reductions(moments=True))[1]
        assert out.moments is not None
        rows = out.moments[0, 0, back + 8 :].double()
        pattern = (
            (q[0, 0].double() @ k[0, 0].double().T).masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf).softmax(-1)
        )
        far = (torch.arange(n)[:, None] - torch.arange(n)).double()
        truth = torch.stack([(pattern * far).sum(-1), (pattern * far**2).sum(-1)], -1)[back + 8 :]
        torch.testing.assert_close(rows, truth, atol=2e-3, rtol=2e-4)
    assert d == q.shape[-1]


@pytest.mark.parametrize(
    ("name", "says"), [("profile", "profile of rows"), ("moments", "moments"), ("matches", "matching")]
)
def test_triton_and_gradients_refuse_by_name(name: str, says: str):
    want = replace(Reductions(), **{name: wanted(0, 23, 23).matches if name == "matches" else True})
    assert says in str(why_not(AttentionSpec(scale=1.0), None, want))
    q, k, v, _ = inputs(0)
    with pytest.raises(Unsupported, match=says):
        attend(q.requires_grad_(), k, v, AttentionSpec(scale=0.3), None, replace(want, grad=True))
