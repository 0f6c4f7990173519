"""Edited heads beside unedited ones, in one thread and in two, against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from workbench_kernels import AttentionSpec, HeadEdits, attend, by_heads, reference, reshaping
from workbench_kernels.by_heads import runs

H, N = 6, 21
KEYS = (torch.arange(N) % 5 == 0).long()[None, None]


def inputs(dtype=torch.float32):
    q = torch.randn(2, N, H, 8).transpose(1, 2) * 2
    return [x.to(dtype) for x in (q, torch.randn(2, 2, N, 8), torch.randn(2, N, 2, 8).transpose(1, 2))]


def table(heads: list[int], value: float, neutral: float) -> torch.Tensor:
    out = torch.full((1, H, 1), neutral)
    out[0, heads] = value
    return out


def edits(kind: str, heads: list[int]) -> HeadEdits:
    chosen = torch.zeros(1, H, dtype=torch.long)
    chosen[0, heads] = 1
    return {
        "calibrate": HeadEdits(key_class=KEYS, class_gain=table(heads, 0.3, 1.0), freed=chosen),
        "amplify": HeadEdits(key_class=KEYS, class_gain=table(heads, 3.0, 1.0), freed=chosen * 2),
        "pai": HeadEdits(key_class=KEYS, boost=table(heads, 0.5, 0.0)),
        "window": HeadEdits(window=chosen * 4, sink=2),
        "uniform": HeadEdits(uniform=chosen.bool()),
    }[kind]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request, monkeypatch):
    monkeypatch.setattr(reshaping, "SCRATCH", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("heads", [[0], [4], [1, 2], [0, 1, 2], [0, 1, 2, 3, 4, 5]], ids=str)
@pytest.mark.parametrize("kind", ["calibrate", "amplify", "pai", "window", "uniform"])
@torch.no_grad()
def test_every_head_is_right(kind: str, heads: list[int], threads: int):
    q, k, v = inputs()
    edit, padding = edits(kind, heads), torch.arange(N)[None] >= torch.tensor([[0], [3]])
    for more in ({}, {"padding": padding}, {"sink_logits": torch.randn(H)}):
        spec = AttentionSpec(scale=0.4, **more)
        (z, _), (true, _) = attend(q, k, v, spec, edit), reference.attend(q, k, v, spec, edit)
        keep = torch.ones(2, 1, N, 1, dtype=torch.bool) if "padding" not in more else padding[:, None, :, None]
        assert ((z - true) * keep).abs().max() <= 1e-5 * true.abs().max()
        plain = attend(q, k, v, spec)[0]
        changed = ((z - plain) * keep).abs().amax((0, 2, 3)) > 1e-3
        assert changed.nonzero().flatten().tolist() == heads


@pytest.mark.parametrize("heads", [[1, 2], [0, 1, 2, 3, 4, 5]], ids=str)
@pytest.mark.parametrize("kind", ["calibrate", "amplify", "pai", "window", "uniform", "classes"])
@torch.no_grad()
def test_models_in_float64_are_right_in_float64(kind: str, heads: list[int], monkeypatch):
    monkeypatch.setattr(reshaping, "SCRATCH", 0)
    q, k, v = inputs(torch.float64)
    two = HeadEdits(key_class=KEYS + (torch.arange(N) == 7).long() * 2, class_gain=torch.rand(1, H, 3) + 0.5)
    edit, padding = two if kind == "classes" else edits(kind, heads), torch.arange(N)[None] >= torch.tensor([[0], [3]])
    for spec in (AttentionSpec(scale=0.4), AttentionSpec(scale=0.4, padding=padding)):
        (z, _), (true, _) = attend(q, k, v, spec, edit), reference.attend(q, k, v, spec, edit)
        keep = 1.0 if spec.padding is None else padding[:, None, :, None]
        assert z.dtype == torch.float64 and ((z - true) * keep).abs().max() <= 2e-7 * true.abs().max()
        assert ((z - attend(q, k, v, spec)[0]) * keep).abs().max() > 1e-3


def test_pieces_are_as_even_as_cores_want_them(monkeypatch):
    """Two cores: the edited head and seven others are eight pieces, not a piece of one head and one of seven."""
    ran: list[int] = []
    monkeypatch.setattr(by_heads.parallel, "workers", lambda device: 2)
    monkeypatch.setattr(by_heads.parallel, "run", lambda work, device: ran.append(len(work)) or [w() for w in work])
    monkeypatch.setattr(reshaping, "SCRATCH", 0)
    q, k, v = inputs()
    with torch.no_grad():
        attend(q, k, v, AttentionSpec(scale=0.4), edits("calibrate", [3]))
        attend(q, k, v, AttentionSpec(scale=0.4), edits("calibrate", [0, 1, 2, 3, 4, 5]))
    attend(q.requires_grad_(), k, v, AttentionSpec(scale=0.4), edits("calibrate", [3]))[0].sum().backward()
    assert ran == [6 + 1, 2] and torch.isfinite(q.grad).all()  # the batch's two rows of the edited head are two pieces


def test_runs_are_whole_kv_heads_or_within_one():
    no, yes = False, True
    assert runs([no] * 8, 4, 8) == [slice(0, 8)]
    assert runs([no, no, no, yes, no, no, no, no], 4, 8) == [slice(0, 3), slice(4, 8)]
    assert runs([no] * 4 + [no, yes, no, no] + [no] * 4, 4, 12) == [
        slice(0, 4), slice(4, 5), slice(6, 8), slice(8, 12)
    ]  # fmt: skip
    assert runs([no, yes, no], 1, 3) == [slice(0, 1), slice(2, 3)] and runs([yes, yes], 2, 2) == []
    assert runs([no] * 4, 2, 1) == [slice(i, i + 1) for i in range(4)]
