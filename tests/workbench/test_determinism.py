"""What is equal to what: statistics over batches, parts, blocks, threads and backends; bits where nothing differs."""

from __future__ import annotations

import pytest
import torch
from workbench_kernels import chunked, sweep

import workbench as wb
from workbench import probes
from workbench.observation import observe
from workbench.patching import path_effects

LIMIT, ELEMENT = 1e-6, 5e-6
"""Largest difference in float32 in a layer and head: of a whole statistic by its norm, of one number by the largest."""
OTHER_WAY = 4
"""So many times that where another backend computes the same in other steps."""
FAINT = 1e-2
"""Heads whose statistic is below this part of the largest head's are held against that part: 0 is not told from 1e-8."""
N, B = 384, 4


@pytest.fixture(scope="module", params=["llama", pytest.param("planted-copy", marks=pytest.mark.slow)])
def model(request):
    return wb.load(request.param)


def tokens(model, b=B, n=N):
    n = min(n, model.context - 8)
    return torch.randint(5, int(model.bridge.cfg.d_vocab) - 1, (b, n), generator=torch.Generator().manual_seed(2))


def asked():
    return [
        probes.received(), probes.entropy(), probes.lse(), probes.norms(), probes.distance(), probes.moments(),
        probes.mass([(8, 40), (60, 61)], rows=(-1, 90)), probes.thumbnail(8), probes.resid_norms(),
    ]  # fmt: skip


def statistics(model, x, **options):
    found = observe(model, x, asked(), **options)
    out = {name: found[name] for name in found if name != "thumbnail"}
    return {**out, "thumbnail": found["thumbnail"].pooled}


def apart(one, other):
    """By statistic: the norm of the difference over the norm, and the largest difference over the largest magnitude.

    In the worst layer and head (the worst layer, for the norms of the stream).
    """
    worst = {}
    for name, a in one.items():
        b, axes = other[name], (0, 2) if name != "resid_norms" else (0,)
        rest = [i for i in range(a.dim()) if i not in axes]
        assert bool((a.isfinite() == b.isfinite()).all())
        a, b = (x.double().nan_to_num(0, 0, 0) for x in (a, b))
        norm, most = a.square().sum(rest).sqrt(), a.abs().amax(rest)
        whole = (a - b).square().sum(rest).sqrt() / norm.clamp_min(FAINT * norm.max())
        single = (a - b).abs().amax(rest) / most.clamp_min(FAINT * most.max())
        worst[name] = (float(whole.max()), float(single.max()))
    return worst


def check(one, other, times=1):
    found = apart(one, other)
    assert max(whole for whole, _ in found.values()) <= times * LIMIT, found
    assert max(single for _, single in found.values()) <= times * ELEMENT, found
    return found


def test_the_same_call_gives_the_same_bits(model):
    x = tokens(model)
    first, again = statistics(model, x), statistics(model, x)
    assert all(torch.equal(first[name].nan_to_num(-1), again[name].nan_to_num(-1)) for name in first)


def test_batch_sizes_and_parts_give_the_same_statistics(model):
    x = tokens(model)
    whole = statistics(model, x)
    for size in (1, 3):
        parts = [statistics(model, part) for part in x.split(size)]
        check({name: torch.cat([p[name] for p in parts], 1) for name in whole}, whole)
    other = statistics(model, x.flip(0))
    check({name: value.flip(1) for name, value in other.items()}, whole)
    one = statistics(model, x[:, : N // 2])
    with pytest.raises(AssertionError):
        check(one, statistics(model, x[:, : N // 2].flip(1)))


@pytest.mark.slow
def test_blocks_of_the_kernel_give_the_same_statistics(model, monkeypatch):
    x = tokens(model)
    whole = statistics(model, x)
    for rows, scratch in ((16, 1 << 12), (500, 1 << 24)):
        monkeypatch.setattr(sweep, "ROWS", rows)
        monkeypatch.setattr(sweep, "FEWEST", min(rows, 32))
        monkeypatch.setattr(sweep, "SCRATCH", scratch)
        monkeypatch.setattr(chunked, "ROWS", rows)
        check(statistics(model, x), whole, 3)  # blocks are no option: nobody changes them between runs


@pytest.mark.slow
def test_threads_give_the_same_statistics(model):
    x, before = tokens(model), torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found[threads] = statistics(model, x)
    finally:
        torch.set_num_threads(before)
    check(found[2], found[1])
    check(found[3], found[1])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["reference", "hooks"])
def test_backends_give_the_same_statistics(model, backend):
    x = tokens(model, 2, 128)
    whole = statistics(model, x)
    before, model.backend = model.backend, backend
    try:
        check(statistics(model, x), whole, OTHER_WAY)
    finally:
        model.backend = before


def test_top_keys_are_equal_but_for_near_ties(model):
    """Over batch sizes: whoever changes has another candidate within 1e-5."""
    x = tokens(model)
    whole = observe(model, x, [probes.top_keys(2)])["top_keys"]
    alone = [observe(model, row[None], [probes.top_keys(2)])["top_keys"] for row in x]
    keys = torch.cat([a.indices for a in alone], 1)[..., 0]
    moved = keys != whole.indices[..., 0]
    margin = whole.values[..., 0] - whole.values[..., 1]
    assert not bool((moved & (margin >= 1e-5)).any())
    assert bool((margin < 1e-5).any()), "there are near ties here, so that the count means something"


def test_path_effects_do_not_depend_on_parts():
    model = wb.load("gpt2")
    x = torch.randint(5, 100, (2, 4, 24), generator=torch.Generator().manual_seed(3))
    answers = torch.tensor([[7, 8]]).expand(4, 2)
    effects = [
        path_effects(model, x[0], x[1], answers, [("q", 2, 1)], 9, memory=memory) for memory in (None, "6MB", "4MB")
    ]
    with torch.no_grad():
        scale = float(model(x[0]).abs().max())  # effects are differences of logits
    for one in effects[1:]:
        assert float((one - effects[0]).abs().max()) / scale < LIMIT
    assert float(effects[0].abs().max()) > 1e-3
