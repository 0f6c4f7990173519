"""Statistics that carry gradients: autograd of whole patterns in float64, differences, memory, refusals."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from dense_attention import B, D, H, N, edits, inputs_of, leaves, specs, whole
from workbench_kernels import (
    AttentionSpec,
    HeadEdits,
    Reductions,
    Unsupported,
    attend,
    chunked,
    differentiable,
    reference,
)
from workbench_kernels.patterns import finish
from workbench_kernels.statistics import statistics

SPANS = torch.tensor([[[6, 9], [0, 1]], [[7, 12], [8, 9]]])
ROWS = torch.tensor([[N - 1, 9, 12], [N - 6, 11, 9]])
ALL_ROWS = Reductions(lse=True, received=True, offsets=(1, 4), entropy=True, distance=True, thumbnail=5, norms=True,
                      top_k=3, spans=SPANS, grad=True)  # fmt: skip
REQUESTS = {"all rows": ALL_ROWS, "chosen rows": replace(ALL_ROWS, rows=ROWS)}
SPECS = ("causal", "left padding", "right padding", "sliding", "mask function", "softcap", "learned sink")
CASES = [(s, "none") for s in SPECS] + [
    ("causal", "gain"), ("causal", "classes, others"), ("left padding", "classes, all"), ("softcap", "bias and boost"),
    ("sliding", "window, uniform"), ("causal", "rows"), ("learned sink", "bias and boost"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(differentiable, "ROWS", 8)
    monkeypatch.setattr(differentiable, "FEWEST", 8)
    monkeypatch.setattr(chunked, "ROWS", 8)


def truth(q, k, v, spec, edit, want):
    """The reductions of the whole pattern; entropy without 0 · log 0, whose slope is no number."""
    p, lse = whole(q, k, spec, edit)
    out = reference.statistics(p, lse, spec, replace(want, entropy=False))
    out.entropy = -(p * (p + 1e-300).log()).sum(-1)
    out.norms = finish(p @ v.repeat_interleave(H // k.shape[1], 1), edit).norm(dim=-1)
    return out


def weights_of(found, spec, want) -> dict[str, torch.Tensor]:
    """Random weights of a loss; nothing for what padded rows hold, for maxima, and for what is no number."""
    out = {}
    for name in (f.name for f in fields(found)):
        x = getattr(found, name)
        if x is None or not x.is_floating_point():
            continue
        out[name] = torch.randn_like(x)
        if name == "thumbnail":
            out[name][:, :, 1] = 0
        by_query = name in ("lse", "entropy", "norms", "at_offset") or (x.dim() == 4 and want.rows is None)
        if spec.padding is not None and by_query and name != "thumbnail":
            keep = spec.padding[:, None, :, *[None] * (x.dim() - 3)]
            out[name] = torch.where(keep, out[name], 0.0)
    return out


def total(found, weights) -> dict[str, torch.Tensor]:
    return {name: (torch.where(w != 0, getattr(found, name), 0.0) * w).sum() for name, w in weights.items()}


@pytest.mark.parametrize(("spec_name", "edit_name"), CASES)
@pytest.mark.parametrize("request_name", REQUESTS)
def test_gradients_of_each_statistic_equal_those_of_the_whole_pattern(spec_name, edit_name, request_name):
    spec, edit, qkv = specs(spec_name), edits(edit_name), leaves()
    want = replace(REQUESTS[request_name], sink_mass=spec.sink_logits is not None)
    of = qkv + inputs_of(spec, edit)
    found, true = attend(*qkv, spec, edit, want)[1], truth(*qkv, spec, edit, want)
    weights = weights_of(found, spec, want)
    ours, theirs = total(found, weights), total(true, weights)
    assert len(ours) >= 9
    for name in ours:
        assert ours[name].dtype == torch.float64, name
        torch.testing.assert_close(ours[name], theirs[name], msg=lambda m, n=name: f"{n}: {m}")
        a = torch.autograd.grad(ours[name], of, retain_graph=True, allow_unused=True)
        b = torch.autograd.grad(theirs[name], of, retain_graph=True, allow_unused=True)
        for x, y, leaf in zip(a, b, of, strict=True):
            x, y = (torch.zeros_like(leaf) if g is None else g for g in (x, y))
            torch.testing.assert_close(x, y, atol=1e-9, rtol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
        assert any(g is not None and g.abs().max() > 1e-6 for g in b), f"{name}: zero cannot fail this test"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types_come_near_float64(dtype):
    spec, qkv = specs("left padding"), leaves()
    low = [x.detach().to(dtype).requires_grad_() for x in qkv]
    high = [x.detach().double().requires_grad_() for x in low]
    want = replace(ALL_ROWS, top_k=0)  # the same keys need not be on top
    z, found = attend(*low, spec, None, want)
    true = truth(*high, spec, None, want)
    weights = weights_of(found, spec, want)
    assert z.dtype == dtype and all(getattr(found, n).dtype == torch.float32 for n in weights)
    a = torch.autograd.grad(sum(total(found, weights).values()), low)
    b = torch.autograd.grad(sum(total(true, {n: w.double() for n, w in weights.items()}).values()), high)
    limit = 1e-5 if dtype == torch.float32 else 2e-2
    for x, y in zip(a, b, strict=True):
        assert x.dtype == dtype and (x - y).abs().max() <= limit * y.abs().max()


def test_gradients_equal_differences():
    table = (torch.rand(1, H, 1, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    keys = (torch.arange(6) < 2).long()[None, None]
    q, k, v = (x[:1, :, :6].detach().requires_grad_() for x in leaves())

    def numbers(q, k, v, table):
        edit = HeadEdits(key_class=keys, class_gain=table, freed=torch.full((1, H), 2))
        want = replace(ALL_ROWS, spans=SPANS[:1, 1:], thumbnail=0)
        out = attend(q, k, v, AttentionSpec(scale=0.4, softcap=2.0), edit, want)[1]
        return out.received, out.entropy, out.lse, out.distance, out.mass, out.norms, out.top_values, out.at_offset

    assert torch.autograd.gradcheck(numbers, (q, k, v, table))


def test_each_phase_has_its_own_gradient():
    spec, qkv = specs("causal"), leaves()
    gains = [torch.rand(1, H, 2, dtype=torch.float64).requires_grad_() for _ in range(2)]
    keys, late = torch.arange(N).lt(3).long()[None, None] + torch.arange(N).eq(1), torch.arange(N)[None] >= 10
    several = [
        HeadEdits(key_class=keys, class_gain=g, freed=torch.ones(1, H, dtype=torch.long), queries=held)
        for g, held in zip(gains, (~late, late), strict=True)
    ]
    want, of = replace(ALL_ROWS, norms=False, thumbnail=0), [*qkv[:2], *gains]
    found = attend(*qkv, spec, several, want)[1]
    parts = [whole(*qkv[:2], spec, replace(e, queries=None)) for e in several]
    p, lse = (torch.where(late[..., None] if x.dim() == 4 else late, y, x) for x, y in zip(*parts, strict=True))
    true = reference.statistics(p, lse, spec, replace(want, entropy=False))
    true.entropy = -(p * (p + 1e-300).log()).sum(-1)
    weights = weights_of(found, spec, want)
    sums = [sum(total(x, weights).values()) for x in (found, true)]
    for x, y in zip(*(torch.autograd.grad(s, of) for s in sums), strict=True):
        torch.testing.assert_close(x, y, atol=1e-9, rtol=1e-7)
        assert y.abs().max() > 1e-6


@pytest.mark.parametrize("spec_name", ["causal", "left padding", "softcap", "learned sink"])
def test_nothing_of_the_size_of_the_pattern_is_kept(spec_name, monkeypatch):
    """Every tensor that autograd holds between forward and backward, and the largest that either of them makes."""
    held: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    spec, edit, qkv = specs(spec_name), edits("classes, others"), leaves()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        z, found = attend(*qkv, spec, edit, replace(ALL_ROWS, thumbnail=3))
    assert max(held.values()) <= z.untyped_storage().nbytes() < B * H * N * N * 8
    of_rows = sum(x.nbytes for f in fields(found) if (x := getattr(found, f.name)) is not None)
    assert sum(held.values()) < sum(x.nbytes for x in (*qkv, z)) * 2 + of_rows + H * B * N * D * 8 * 3
    (found.entropy.sum() + found.received.square().sum()).backward()
    assert qkv[0].grad is not None and qkv[0].grad.abs().max() > 0


def test_peak_memory_is_linear():
    """Resident size: at 4,096 keys one pattern of 4 heads takes 256 MiB, and autograd would keep several."""
    import subprocess
    import sys

    code = """
import torch
from pathlib import Path
from workbench_kernels import AttentionSpec, Reductions, attend
torch.set_num_threads(1)
def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024
def run(n):
    q, k, v = (torch.randn(1, h, n, 32, requires_grad=True) for h in (4, 2, 2))
    want = Reductions(received=True, entropy=True, lse=True, distance=True, thumbnail=8, norms=True, grad=True)
    s = attend(q, k, v, AttentionSpec(scale=0.2), None, want)[1]
    sum(x.square().sum() for x in (s.received, s.entropy, s.distance, s.thumbnail[:, :, 0], s.norms)).backward()
run(256); before = peak(); run(4096); print(peak() - before)
"""
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 128


def test_what_has_no_gradient_says_so():
    spec, qkv = specs("causal"), leaves()
    found = attend(*qkv, spec, None, ALL_ROWS)[1]
    assert not found.top_indices.requires_grad
    with pytest.raises(Unsupported, match="channel 1"):
        found.thumbnail.sum().backward()
    found.thumbnail[:, :, 0].square().sum().backward()


def test_without_being_asked_nothing_carries_gradients():
    spec, qkv = specs("causal"), leaves()
    z, found = attend(*qkv, spec, None, replace(ALL_ROWS, grad=False))
    with torch.no_grad():
        _, silent = attend(*qkv, spec, None, ALL_ROWS)
    assert z.requires_grad
    for x in (found, silent, statistics(*qkv[:2], spec, None, replace(ALL_ROWS, grad=False))):
        for name in (f.name for f in fields(x)):
            assert getattr(x, name) is None or not getattr(x, name).requires_grad, name
    alone = statistics(*qkv[:2], spec, None, ALL_ROWS)
    torch.testing.assert_close(alone.received.float(), found.received)
    assert alone.received.requires_grad
