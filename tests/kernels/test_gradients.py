"""Gradients through `chunked`: autograd of an N×N attention written out, numerical ones, and what is kept in between."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dense_attention import B, D, H, N, dense, edits, inputs_of, leaves, specs
from workbench_kernels import AttentionSpec, attend, chunked, reshaping

PLAIN = ("causal", "left padding", "right padding", "sliding", "mask function", "softcap", "learned sink")
CASES = [(s, "none") for s in PLAIN] + [
    ("causal", "gain"), ("learned sink", "gain"), ("causal", "classes, others"), ("left padding", "classes, all"),
    ("softcap", "bias and boost"), ("causal", "bias and boost"), ("sliding", "window, uniform"), ("causal", "rows"),
    ("left padding", "window, uniform"),
]  # fmt: skip


@pytest.mark.parametrize(("spec_name", "edit_name"), CASES)
@pytest.mark.parametrize("in_turn", [False, True], ids=["together", "heads in turn"])
def test_gradients_equal_those_of_the_whole_pattern(spec_name: str, edit_name: str, in_turn: bool, monkeypatch):
    monkeypatch.setattr(chunked, "ROWS", 8)
    if in_turn:
        monkeypatch.setattr(reshaping, "SCRATCH", 0)
    spec, edit, qkv = specs(spec_name), edits(edit_name), leaves()
    of = qkv + inputs_of(spec, edit)
    weight = torch.randn(B, H, N, D, dtype=torch.float64)
    if spec.padding is not None:
        weight = weight * spec.padding[:, None, :, None]
    z, truth = attend(*qkv, spec, edit)[0], dense(*qkv, spec, edit)
    torch.testing.assert_close(z * (weight != 0), truth * (weight != 0))
    ours = torch.autograd.grad((z * weight).sum(), of)
    theirs = torch.autograd.grad((truth * weight).sum(), of)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)
        assert b.abs().max() > 1e-6, "a gradient that is zero cannot fail this test"


@pytest.mark.parametrize("name", ["classes, others", "bias and boost"])
def test_gradients_equal_differences(name: str, monkeypatch):
    monkeypatch.setattr(chunked, "ROWS", 4)
    edit, spec = edits(name), AttentionSpec(scale=0.4, softcap=2.0)
    assert edit is not None and edit.key_class is not None
    q, k, v = (x[:1, :, :6].detach().requires_grad_() for x in leaves())
    short = replace(edit, key_class=edit.key_class[:1, :, 4:10])
    assert torch.autograd.gradcheck(lambda *x: attend(*x, spec, short)[0], (q, k, v))


@pytest.mark.parametrize("spec_name", ["causal", "left padding", "sliding", "softcap", "learned sink"])
@pytest.mark.parametrize("edit_name", ["none", "classes, others", "window, uniform"])
def test_nothing_of_the_size_of_the_pattern_is_kept(spec_name: str, edit_name: str, monkeypatch):
    """Bytes of all distinct storages that autograd holds between forward and backward."""
    monkeypatch.setattr(chunked, "ROWS", 8)
    monkeypatch.setattr(reshaping, "SCRATCH", 0)
    held: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    spec, edit, qkv = specs(spec_name), edits(edit_name), leaves()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        z, _ = attend(*qkv, spec, edit)
    tensors = sum(x.untyped_storage().nbytes() for x in (*qkv, z))
    assert max(held.values()) <= z.untyped_storage().nbytes() < B * H * N * N * 8
    assert sum(held.values()) < tensors + H * B * N * D * 8 * 3  # a head's copies of its q, k and v
    z.sum().backward()
