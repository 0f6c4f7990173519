"""Queries behind a past: two flash calls merged, heads of a kv head as queries; against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, attend, chunked, cpu_flash, reference


def inputs(n: int, m: int, dtype=torch.float32, h: int = 6, g: int = 2):
    """Peaked enough that the past and the own keys hold very different shares; strided as a model gives them."""
    q = (torch.randn(2, n, h, 16) * 3).transpose(1, 2)
    return [x.to(dtype) for x in (q, torch.randn(2, g, m, 16), torch.randn(2, m, g, 16).transpose(1, 2))]


def ways(monkeypatch) -> list[str]:
    """Which ways are gone."""
    gone: list[str] = []
    for module, name in ((cpu_flash, "of_suffix"), (cpu_flash, "grouped"), (chunked, "_masked_flash")):
        true = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, true=true, name=name: gone.append(name) or true(*a))
    return gone


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("n", "past", "later"), [(2, 1, 0), (9, 30, 0), (30, 9, 0), (150, 40, 0), (7, 20, 5)])
@pytest.mark.parametrize("heads", [(6, 2), (4, 4)])
def test_a_suffix_is_two_flash_calls(n, past, later, heads, dtype, monkeypatch):
    q, k, v = inputs(n, past + n + later, dtype, *heads)
    spec, gone = AttentionSpec(scale=0.4, q_offset=past + 3, kv_offset=3), ways(monkeypatch)
    z = attend(q, k, v, spec)[0]
    assert gone == ["of_suffix"] and z.dtype == dtype
    true = reference.attend(q, k, v, spec)[0]
    limit = 1e-5 if dtype == torch.float32 else 2e-2
    assert (z - true).abs().max() <= limit * true.abs().max()
    without_past = attend(q, k[:, :, past:], v[:, :, past:], AttentionSpec(scale=0.4))[0]
    assert (without_past - true).abs().max() > 0.1, "the past must matter"


def test_one_side_may_hold_all_of_the_weight():
    q, k, v = inputs(5, 25)
    for kept in (slice(0, 20), slice(20, 25)):
        far = k * 1e-3
        far[:, :, kept] = k[:, :, kept] * 30
        spec = AttentionSpec(scale=0.4, q_offset=20)
        z, true = attend(q, far, v, spec)[0], reference.attend(q, far, v, spec)[0]
        assert torch.isfinite(z).all() and (z - true).abs().max() <= 1e-5 * true.abs().max()


@pytest.mark.parametrize(
    "more", [{"padding": torch.arange(39)[None] >= torch.tensor([[0], [4]])}, {"sliding": 12}, {"softcap": 2.0},
             {"allowed": lambda b, h, i, j: j <= i}, {"sink_logits": torch.zeros(6)}], ids=lambda x: next(iter(x)),
)  # fmt: skip
def test_what_two_calls_cannot_say_goes_the_old_way(more, monkeypatch):
    (q, k, v), gone = inputs(9, 39), ways(monkeypatch)
    spec = AttentionSpec(scale=0.4, q_offset=30, **more)
    z, true = attend(q, k, v, spec)[0], reference.attend(q, k, v, spec)[0]
    assert "of_suffix" not in gone and (z - true).abs().max() <= 1e-5 * true.abs().max()


def test_gradients_go_the_old_way(monkeypatch):
    (q, k, v), gone = [x.double().requires_grad_() for x in inputs(9, 39)], ways(monkeypatch)
    spec = AttentionSpec(scale=0.4, q_offset=30)
    weight = torch.randn(2, 6, 9, 16, dtype=torch.float64)
    ours = torch.autograd.grad((attend(q, k, v, spec)[0] * weight).sum(), (q, k, v))
    s = q @ k.repeat_interleave(3, 1).mT * 0.4
    s = s.masked_fill(torch.ones(9, 39, dtype=torch.bool).triu(31), float("-inf"))
    true = torch.autograd.grad((s.softmax(-1) @ v.repeat_interleave(3, 1) * weight).sum(), (q, k, v))
    assert gone == []
    for a, b in zip(ours, true, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_decoding_step_copies_no_keys(padded, dtype, monkeypatch):
    (q, k, v), gone = inputs(1, 40, dtype), ways(monkeypatch)
    padding = torch.arange(40)[None] >= torch.tensor([[0], [7]]) if padded else None
    spec = AttentionSpec(scale=0.4, q_offset=39, padding=padding)
    z, true = attend(q, k, v, spec)[0], reference.attend(q, k, v, spec)[0]
    assert gone == (["_masked_flash", "grouped"] if padded else ["grouped"])
    assert (z - true).abs().max() <= (1e-5 if dtype == torch.float32 else 2e-2) * true.abs().max()


def test_the_first_rows_alone_need_no_mask(monkeypatch):
    (q, k, v), gone = inputs(9, 30), ways(monkeypatch)
    z, true = attend(q, k, v, AttentionSpec(scale=0.4))[0], reference.attend(q, k, v, AttentionSpec(scale=0.4))[0]
    assert gone == [] and (z - true).abs().max() <= 1e-5 * true.abs().max()


def test_edits_and_statistics_of_a_suffix():
    q, k, v = inputs(9, 39)
    spec, want = AttentionSpec(scale=0.4, q_offset=30), Reductions(rows=torch.tensor([[8], [3]]), top_k=2)
    edit = HeadEdits(gain=torch.rand(2, 6), window=torch.tensor([[0, 3, 0, 0, 9, 0]]), sink=2)
    (z, found), (true, expected) = attend(q, k, v, spec, edit, want), reference.attend(q, k, v, spec, edit, want)
    assert (z - true).abs().max() <= 1e-5 * true.abs().max()
    torch.testing.assert_close(found.top_values.double(), expected.top_values, atol=1e-5, rtol=1e-5)
